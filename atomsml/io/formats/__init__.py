"""Readers of files of structures, one for each family of formats."""
