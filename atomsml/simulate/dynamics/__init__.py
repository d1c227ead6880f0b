"""How the atoms of each ensemble move: an integrator a file."""
