"""Terms that are added to other potentials."""
