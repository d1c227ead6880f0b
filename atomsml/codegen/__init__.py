"""How a CPU kernel is written; knows no physics."""
