"""The hot operations: each a plain-torch reference and kernels that give the same numbers faster."""
