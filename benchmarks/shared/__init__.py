"""What the scripts share: programs of other packages, the structures they are given, tables in the documentation."""
