"""Commands of paths between minima."""
