"""`atomsml relax`."""
