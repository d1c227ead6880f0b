"""Generators of bond graphs: which atoms of a molecule are bonded to which, before it has a shape."""
