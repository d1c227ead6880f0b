"""Functions of the distance: bases and envelopes, trainable splines, tables."""
