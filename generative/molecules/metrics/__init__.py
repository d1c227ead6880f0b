"""Judging generated molecules: one suite a file, and `evaluate_molecules`, which runs them."""
