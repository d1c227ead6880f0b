"""Errors of a model, pictures of them, and pages."""
