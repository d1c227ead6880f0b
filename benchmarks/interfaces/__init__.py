"""Models inside other programs, beside other ways to bring them there."""
