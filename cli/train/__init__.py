"""`atomsml train`."""
