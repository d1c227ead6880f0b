"""Time and memory, beside other programs where there are any."""
