"""Geometries of drug-like molecules and fragments, for generators: H C N O F S Cl Br, to 14 heavy atoms.

    python -m benchmarks.recipes.make_fragment_set DATA/molecules_static/smiles/zinc250k_valid.csv.gz -o fragments.h5
        [-n 20000] [--most 14] [--processes 2]

Takes the molecules of the list that are small enough, and the BRICS fragments of all of it, with hydrogens where bonds
were cut (Degen et al., ChemMedChem 3, 1503 (2008); RDKit), in an order by the seed 0; those that are neutral atom by
atom. Each is embedded with ETKDG, relaxed with MMFF94 and then with GFN2-xTB (tblite), and kept if it converges and has
its bonds still. The file has the arrays that `atomsml train` reads: offsets, numbers, positions and smiles. It is
written again after every CHUNK molecules.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterable, Iterator
from pathlib import Path

import ase
import h5py
import numpy as np
from rdkit import Chem
from rdkit.Chem import BRICS, rdDistGeom, rdForceFieldHelpers
from rdkit.rdBase import BlockLogs

from atomsml.generative.molecules.gfn2 import relax_gfn2
from atomsml.io import atoms_from_mol, parse_smiles, write_atomically
from atomsml.io.formats.smiles import smiles_lines
from atomsml.io.formats.source import Source

ELEMENTS = frozenset((6, 7, 8, 9, 16, 17, 35))
CHUNK = 200


def fragments(smiles: Iterable[str]) -> Iterator[str]:
    """Each molecule and its fragments, canonical and without stereochemistry, as often as they come."""
    for text in smiles:
        mol = Chem.MolFromSmiles(text)
        if mol is None:
            continue
        yield Chem.MolToSmiles(mol, isomericSmiles=False)
        for piece in BRICS.BRICSDecompose(mol, returnMols=True):
            for atom in piece.GetAtoms():
                if atom.GetAtomicNum() == 0:  # a cut bond
                    atom.SetAtomicNum(1)
                    atom.SetIsotope(0)
            yield Chem.MolToSmiles(Chem.RemoveHs(piece), isomericSmiles=False)


def fits(smiles: str, most: int) -> bool:
    mol = Chem.MolFromSmiles(smiles)
    return (
        mol is not None
        and "." not in smiles
        and 3 <= mol.GetNumHeavyAtoms() <= most
        and all(
            a.GetAtomicNum() in ELEMENTS and a.GetFormalCharge() == a.GetNumRadicalElectrons() == 0
            for a in mol.GetAtoms()
        )
    )


def embedded(smiles: str) -> ase.Atoms | None:
    """At a minimum of MMFF94, or None."""
    mol = parse_smiles(smiles)
    if rdDistGeom.EmbedMolecule(mol, randomSeed=1) != 0 or not rdForceFieldHelpers.MMFFHasAllMoleculeParams(mol):
        return None
    rdForceFieldHelpers.MMFFOptimizeMolecule(mol, maxIters=2000)
    return atoms_from_mol(mol)


def write(path: Path, kept: dict[str, ase.Atoms]) -> None:
    def fill(beside: Path) -> None:
        with h5py.File(beside, "w") as file:
            file["offsets"] = np.cumsum([0, *map(len, kept.values())])
            file["numbers"] = np.concatenate([atoms.numbers for atoms in kept.values()]).astype(np.uint8)
            file["positions"] = np.concatenate([atoms.positions for atoms in kept.values()]).astype(np.float32)
            file.create_dataset("smiles", data=list(kept), dtype=h5py.string_dtype())

    write_atomically(path, fill)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("-n", "--number", type=int, help="molecules to try; all of them, if it is not given")
    parser.add_argument("--most", type=int, default=14, help="heavy atoms")
    parser.add_argument("--processes", type=int, default=1)
    arguments = parser.parse_args()
    with BlockLogs():
        found = set(fragments(smiles for _, smiles, _ in smiles_lines(Source(arguments.data))))
        todo = sorted(smiles for smiles in found if fits(smiles, arguments.most))
    random.Random(0).shuffle(todo)
    print(f"{len(todo)} different molecules of up to {arguments.most} heavy atoms", flush=True)
    kept, todo = dict[str, ase.Atoms](), todo[: arguments.number]
    for start in range(0, len(todo), CHUNK):
        starts = {smiles: atoms for smiles in todo[start : start + CHUNK] if (atoms := embedded(smiles)) is not None}
        done = sorted(relax_gfn2(list(starts.values()), processes=arguments.processes), key=lambda each: each.index)
        kept |= {s: each.atoms for s, each in zip(starts, done, strict=True) if each.converged and each.bonds_kept}
        if kept:
            write(arguments.output, kept)
        print(f"{len(kept)} of {min(start + CHUNK, len(todo))} kept", flush=True)


if __name__ == "__main__":
    main()
