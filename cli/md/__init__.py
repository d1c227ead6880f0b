"""`atomsml md`."""
