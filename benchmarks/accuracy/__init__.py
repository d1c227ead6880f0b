"""Errors of models, and what architectures can and cannot learn."""
