"""Properties: what people run a potential for, one file each, of many structures at once.

Each is a function of structures, an Engine and settings, and yields what it found of a structure, or why it found
nothing, as soon as that is known; `task.py` has what they share.
"""
