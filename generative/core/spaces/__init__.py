"""Spaces: where the fields of a generator live."""
