"""Relaxation and molecular dynamics of single systems with any ASE calculator."""
