"""`atomsml generate`."""
