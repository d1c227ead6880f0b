"""Generators of molecules, and what is asked of their results."""
