"""`atomsml evaluate`."""
