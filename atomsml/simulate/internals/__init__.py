"""Internal coordinates of molecules, lengths, angles and torsions: their values, and relaxations that hold some."""
