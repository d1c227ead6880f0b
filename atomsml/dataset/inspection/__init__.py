"""What a data set is like, and what about it is suspicious."""
