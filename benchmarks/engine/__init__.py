"""The engine of simulation: many systems at once, ensembles, runs that last."""
