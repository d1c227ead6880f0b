"""How long work takes as a user meets it: streams of different structures, whole commands, cold starts."""
