"""Train potentials on labelled structures: configs, the loop, checkpoints, metrics, and runs that put them together."""
