"""Read molecules to be judged, however broken, and what they are compared with."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Iterable, Iterator
from pathlib import Path

import ase

from atomsml.dataset.columns import atomic_numbers
from atomsml.dataset.formats.frames import extxyz_frames
from atomsml.dataset.read import HDF5, format_suffix
from atomsml.generative.molecules.data import hdf5_molecules
from atomsml.generative.molecules.metrics.evaluate import Reference
from atomsml.io import check_structure, read, with_bond_orders

SMILES = (".smi", ".smiles", ".txt", ".csv")


def read_generated(path: str | Path) -> list[ase.Atoms]:
    """The molecules of a file: .sdf without its bonds, .h5, or any format that ASE reads.

    Raises:
        OSError: no such file.
        ValueError: a file that cannot be read, or a structure in it that is no molecule: periodic, without atoms, or
            with a position that is not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; check the path")
    if path.suffix.lower() == ".sdf":
        molecules = _read_sdf(path)
    elif path.suffix.lower() in HDF5:
        molecules = _read_hdf5(path)
    elif format_suffix(path) in (".xyz", ".extxyz"):
        molecules = [ase.Atoms(f.numbers, f.positions, cell=f.cell, pbc=f.pbc) for f in extxyz_frames(path)]
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
    if path.suffix.lower() not in SMILES:
        return Reference(path.name, read_generated(path))
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; check the path")
    try:
        with path.open(encoding="utf-8", newline="") as file:
            texts = list(_column(file, path) if path.suffix.lower() == ".csv" else _first_words(file))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: cannot be read ({error}); give a text file of SMILES") from None
    smiles = frozenset(_canonical(text, f"{path}, line {line}") for line, text in texts)
    if not smiles:
        raise ValueError(f"{path}: holds no SMILES; check that it is complete")
    return Reference(path.name, smiles=smiles)


def _read_sdf(path: Path) -> list[ase.Atoms]:
    from rdkit import Chem
    from rdkit.rdBase import BlockLogs

    molecules = []
    with BlockLogs(), path.open("rb") as file:
        for index, mol in enumerate(Chem.ForwardSDMolSupplier(file, sanitize=False, removeHs=False)):
            if mol is None:
                raise ValueError(f"{path}, frame {index}: is no readable SDF record; correct or remove it")
            numbers = [atom.GetAtomicNum() for atom in mol.GetAtoms()]
            molecules.append(ase.Atoms(numbers, mol.GetConformer().GetPositions()))
    return molecules


def _read_hdf5(path: Path) -> list[ase.Atoms]:
    return [ase.Atoms(atomic_numbers(row), places) for row, places in zip(*hdf5_molecules(path), strict=True)]


def _first_words(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """With line numbers, without empty lines."""
    for line, text in enumerate(lines, start=1):
        if text.split():
            yield line, text.split()[0]


def _column(lines: Iterable[str], path: Path) -> Iterator[tuple[int, str]]:
    rows = csv.DictReader(lines)
    name = next((name for name in rows.fieldnames or () if name.strip().lower() == "smiles"), None)
    if name is None:
        raise ValueError(f"{path}: has no column smiles; its first line must name the columns")
    for line, row in enumerate(rows, start=2):
        if (row[name] or "").strip():
            yield line, row[name].strip()


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
