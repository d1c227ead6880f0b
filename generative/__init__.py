"""Generators of molecules and materials: one file per idea. None yet."""
