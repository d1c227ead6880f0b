"""Processes: how data become noise, and noise data."""
