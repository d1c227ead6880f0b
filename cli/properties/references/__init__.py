"""The commands that refer energies to those of given references: `formation` and `vacancy`."""
