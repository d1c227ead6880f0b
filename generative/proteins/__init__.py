"""Backbones of proteins: frames of residues, generators of them, and measures of what these draw."""
