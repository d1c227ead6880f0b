"""Processes, spaces, samplers and wrappers of predictions; knows no kind of thing that is generated."""
