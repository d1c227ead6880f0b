"""Quality of generated molecules."""
