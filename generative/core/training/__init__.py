"""A training run of a generator, whatever it generates."""
