"""Interaction energies of complexes of molecules.

fragments.py says what belongs together, separation.py pulls it apart, interaction.py computes the energies.
"""
