"""Conformers: the minima of a molecule that differ by turns about its bonds, and how often each is met.

seeds.py makes geometries to begin with, same.py tells which minima are the same, ensembles.py does the rest.
"""
