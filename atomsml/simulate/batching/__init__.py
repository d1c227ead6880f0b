"""Many systems at a time: which of a queue run together, and for how many there is room."""
