"""The commands of surfaces: `surface` and `adsorb`."""
