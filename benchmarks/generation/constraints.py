"""Whether molecules obey what was asked for, read back from the files, and how many new ones a list of SMILES holds.

    python -m benchmarks.generation.constraints FOLDER --known DATA/molecules_static/qm9_xtb.h5 --list SMILES.csv.gz

Draws 100 molecules (seed 5) for a number of atoms, three formulas, a scaffold and a formula far beyond the training
set, by `atomsml generate molecules`, into FOLDER, and counts those that obey.
Then it draws 1,000 (seed 1): how many of their SMILES are not in the training set, and of these how many in the list.
"""

from __future__ import annotations

import argparse
import csv
import gzip
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
from rdkit import Chem, RDLogger

from atomsml.cli.main import main as atomsml
from atomsml.generative.molecules.compositions import parse_formula
from atomsml.io import mol_from_smiles

FORMULAS = ("C6H6O", "C5H5FN2O", "C7H12FN", "C15H24O")


def draw(path: Path, number: int, seed: int, *words: str) -> list[Chem.Mol]:
    """The records that the command wrote."""
    try:
        atomsml(["generate", "molecules", "-n", str(number), "--seed", str(seed), "-o", str(path), *words])
    except SystemExit as stop:
        if stop.code:
            raise
    return list(Chem.SDMolSupplier(str(path), removeHs=False, sanitize=False))


def numbers_of(mol: Chem.Mol) -> list[int]:
    return [atom.GetAtomicNum() for atom in mol.GetAtoms()]


def same_places(mol: Chem.Mol, core: Chem.Mol) -> bool:
    """Whether the first atoms are the heavy atoms of the core, to the digits of the file."""
    heavy = [atom.GetIdx() for atom in core.GetAtoms() if atom.GetAtomicNum() > 1]
    wanted, found = (each.GetConformer().GetPositions() for each in (core, mol))
    elements = [numbers_of(core)[i] for i in heavy]
    return numbers_of(mol)[: len(heavy)] == elements and bool(np.abs(found[: len(heavy)] - wanted[heavy]).max() < 2e-4)


def plain(smiles: str) -> str | None:
    """Canonical, without stereochemistry."""
    mol = Chem.MolFromSmiles(smiles)
    return None if mol is None else Chem.MolToSmiles(mol, isomericSmiles=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--known", type=Path, required=True)
    parser.add_argument("--list", type=Path, required=True)
    arguments = parser.parse_args()
    folder = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    RDLogger.DisableLog("rdApp.*")
    mols = draw(folder / "atoms.sdf", 100, 5, "--atoms", "15")
    print("15 atoms:", sum(mol.GetNumAtoms() == 15 for mol in mols), "of", len(mols))
    for formula in FORMULAS:
        mols = draw(folder / f"{formula}.sdf", 100, 5, "--formula", formula)
        print(f"{formula}:", sum(Counter(numbers_of(mol)) == parse_formula(formula) for mol in mols), "of", len(mols))
    furan = mol_from_smiles("c1ccoc1", seed=1)
    with Chem.SDWriter(str(folder / "furan.sdf")) as writer:
        writer.write(furan)
    mols = draw(folder / "scaffold.sdf", 100, 5, "--scaffold", str(folder / "furan.sdf"))
    print("furan:", sum(same_places(mol, furan) for mol in mols), "of", len(mols))

    mols = draw(folder / "thousand.sdf", 1000, 1)
    with h5py.File(arguments.known) as file:
        known = {plain(smiles.decode()) for smiles in file["smiles"][:]}
    with gzip.open(arguments.list, "rt") as file:
        listed = {plain(row[-1]) for row in csv.reader(file)} - {None}
    new = {mol.GetProp("SMILES") for mol in mols if mol.HasProp("SMILES")} - known
    print(f"new: {len(new)}; in the list of {len(listed)}: {len(new & listed)}")


if __name__ == "__main__":
    main()
