"""Elastic constants of crystals: which strains are needed, what follows from the stresses, and what a tensor means."""
