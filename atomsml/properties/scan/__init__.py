"""Scans: the energy of a molecule along lengths, angles and torsions.

driven.py says what is scanned, scans.py computes the points, landscape.py finds minima and barriers among them.
"""
