"""Experiments of papers whose methods are in this package, repeated at the size of one core."""
