"""Neighbour lists, and one with a skin."""

from atomsml.neighbors.lists import neighbor_list as neighbor_list
