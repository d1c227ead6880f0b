"""Where the kept components of a frame stand."""

Places = tuple[int, ...]  # row of messages of each kept component, counted by degree l, then by order m
