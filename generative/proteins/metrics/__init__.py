"""How good backbones are: one measure a file, all of them together in evaluate.py."""
