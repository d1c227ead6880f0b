"""Properties: accuracy against published values, and time beside the usual way of computing them."""
