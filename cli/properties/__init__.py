"""The commands of properties: `eos`, ...: one file each, which `run.py` runs over many structures."""
