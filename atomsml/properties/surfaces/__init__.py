"""Surfaces of crystals: slabs, their energies, and what adsorbs on them."""
