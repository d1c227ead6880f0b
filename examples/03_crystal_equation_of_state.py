"""Lattice constant and bulk modulus of a cubic metal from its equation of state.

    python examples/03_crystal_equation_of_state.py W

Energies of nine volumes, fitted with the Birch-Murnaghan equation (Birch, Phys. Rev. 71, 809 (1947)).
"""

import argparse

import numpy as np
from ase import units
from ase.build import bulk
from ase.eos import EquationOfState
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS

from atomsml import AtomsMLCalculator

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("element", nargs="?", default="W", help="a metal the model knows; default: W")
parser.add_argument("--model", default="refractory-pbe", help="an embedded name or a file")
options = parser.parse_args()

atoms = bulk(options.element, cubic=True)  # starts from the measured lattice constant
atoms.calc = AtomsMLCalculator(options.model)
BFGS(FrechetCellFilter(atoms, hydrostatic_strain=True), logfile=None).run(fmax=0.001, steps=100)
relaxed = atoms.cell.lengths()[0]

volumes, energies = [], []
for scale in np.linspace(0.98, 1.02, 9):  # of the lattice constant
    strained = atoms.copy()
    strained.calc = atoms.calc
    strained.set_cell(scale * atoms.cell, scale_atoms=True)
    volumes.append(strained.get_volume())  # A^3
    energies.append(strained.get_potential_energy())  # eV

volume, _, bulk_modulus = EquationOfState(volumes, energies, eos="birchmurnaghan").fit()
print(f"{atoms.get_chemical_formula()}, a relaxed by its stress and then fitted to energies alone")
print(f"lattice constant, relaxed  {relaxed:8.4f} A")
print(f"lattice constant, fitted   {volume ** (1 / 3):8.4f} A")
print(f"bulk modulus               {bulk_modulus / units.GPa:8.1f} GPa")
