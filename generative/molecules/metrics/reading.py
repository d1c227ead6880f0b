"""Read molecules to be judged, however broken, and what they are compared with."""

from __future__ import annotations

import contextlib
from pathlib import Path

import ase

from atomsml.dataset.columns import atomic_numbers
from atomsml.dataset.read import HDF5
from atomsml.generative.molecules.data import hdf5_molecules
from atomsml.generative.molecules.metrics.evaluate import Reference
from atomsml.io import check_structure, geometry_fault, read, with_bond_orders
from atomsml.io.formats.rdkit_molecules import sdf_mols
from atomsml.io.formats.smiles import smiles_lines
from atomsml.io.formats.source import Source, format_suffix
from atomsml.io.formats.table import FORMATS

SMILES = (".smi", ".smiles", ".txt", ".csv")


def read_generated(path: str | Path) -> list[ase.Atoms]:
    """The molecules of a file: .h5, or any format that `atomsml.io.read` reads.

    Raises:
        OSError: no such file.
        ValueError: a file that cannot be read, or a structure in it that is no molecule in space: flat, without
            its hydrogens, periodic, without atoms, or with a position that is not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; check the path")
    if format_suffix(path) in HDF5:
        molecules = _read_hdf5(path)
    elif format_suffix(path) in FORMATS["sdf"].suffixes:
        molecules = _read_sdf(path)
    else:
        molecules = read(path)
    if not molecules:
        raise ValueError(f"{path}: holds no molecule; check that it is complete")
    for index, atoms in enumerate(molecules):
        where = f"{path}, frame {index}"
        check_structure(atoms, where)
        if atoms.pbc.any():
            raise ValueError(f"{where}: is periodic; give molecules, without a cell")
    return molecules


def read_reference(path: str | Path) -> Reference:
    """A reference of molecules, or of SMILES: the first word of each line, or the column `smiles` of a .csv.

    Raises:
        OSError: no such file.
        ValueError: a file that cannot be read, or a line that is no SMILES.
    """
    path = Path(path)
    if format_suffix(path) not in SMILES:
        return Reference(path.name, read_generated(path))
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; check the path")
    try:
        texts = [(line, smiles) for line, smiles, _ in smiles_lines(Source(path))]
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    smiles = frozenset(_canonical(text, f"{path}, line {line}") for line, text in texts)
    if not smiles:
        raise ValueError(f"{path}: holds no SMILES; check that it is complete")
    return Reference(path.name, smiles=smiles)


def _read_sdf(path: Path) -> list[ase.Atoms]:
    """Without the bonds: a record whose valences are wrong is what there is to judge, one without hydrogens is not."""
    molecules = []
    for index, mol in enumerate(sdf_mols(Source(path))):
        if mol is None:
            raise ValueError(f"{path}, frame {index}: is no readable SDF record; correct or remove it")
        numbers = [atom.GetAtomicNum() for atom in mol.GetAtoms()]
        reason = geometry_fault(mol)
        if reason is not None and (1 not in numbers or not mol.GetConformer().Is3D()):
            raise ValueError(f"{path}, frame {index}: {reason}")
        molecules.append(ase.Atoms(numbers, mol.GetConformer().GetPositions()))
    return molecules


def _read_hdf5(path: Path) -> list[ase.Atoms]:
    return [ase.Atoms(atomic_numbers(row), places) for row, places in zip(*hdf5_molecules(path), strict=True)]


def _canonical(smiles: str, where: str) -> str:
    """As perception writes it: its formal charges are those that its connectivity is given there."""
    from rdkit import Chem
    from rdkit.rdBase import BlockLogs

    with BlockLogs():
        mol = Chem.MolFromSmiles(smiles)
        if mol is None:
            raise ValueError(f"{where}: {smiles!r} is no SMILES of a sound molecule; correct or remove it")
        if any(atom.GetFormalCharge() for atom in mol.GetAtoms()):
            with contextlib.suppress(ValueError):  # what perception does not know, it finds in no molecule
                mol = Chem.RemoveHs(with_bond_orders(Chem.AddHs(mol), Chem.GetFormalCharge(mol)))
    return str(Chem.MolToSmiles(mol, isomericSmiles=False))
