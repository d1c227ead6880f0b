"""How weights follow gradients, and how fast."""
