"""Models that atomsml finds by the entry points of this package: nothing here is imported until one is asked for."""
