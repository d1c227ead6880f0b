"""Relax a molecule given as SMILES with an embedded model.

    python examples/01_relax_a_molecule.py "CC(=O)Nc1ccc(O)cc1"

Any optimizer of ASE runs on the calculator; the relaxed structure goes to relaxed.xyz.
"""

import argparse

from ase.optimize import LBFGS

from atomsml import AtomsMLCalculator
from atomsml.io import atoms_from_smiles

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("smiles", nargs="?", default="CC(=O)Nc1ccc(O)cc1", help="default: paracetamol")
parser.add_argument("--model", default="organic-xtb", help="an embedded name or a file")
parser.add_argument("--fmax", type=float, default=0.01, help="largest force at the end, eV/A")
options = parser.parse_args()

atoms = atoms_from_smiles(options.smiles)  # ETKDG, then MMFF94
atoms.calc = AtomsMLCalculator(options.model)

start = atoms.get_potential_energy()
optimizer = LBFGS(atoms, logfile=None)
converged = optimizer.run(fmax=options.fmax, steps=500)

force = (atoms.get_forces() ** 2).sum(axis=1).max() ** 0.5
print(f"{atoms.get_chemical_formula()}: {'converged' if converged else 'NOT converged'} in {optimizer.nsteps} steps")
print(f"energy         {atoms.get_potential_energy():14.4f} eV")
print(f"relaxation     {atoms.get_potential_energy() - start:14.4f} eV")
print(f"largest force  {force:14.4f} eV/A")

atoms.write("relaxed.xyz")
