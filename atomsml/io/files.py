"""Structure files, and what a structure must have to be treated."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import ase
import ase.io
import numpy as np

from atomsml.io.convert import atoms_from_smiles, independent
from atomsml.io.molecules import parse_smiles


@dataclass(frozen=True)
class StructureRecord:
    """One structure of the input, and where it came from."""

    file: str  # path, or the SMILES string
    index: int  # frame within the file
    atoms: ase.Atoms


def read_structures(inputs: Sequence[str]) -> list[StructureRecord]:
    """All frames of all inputs, in order: paths of any format ASE reads, or SMILES strings where no such file exists.

    Raises:
        FileNotFoundError: an input that is neither a file nor a SMILES string.
        ValueError: a file that cannot be read or holds no structure, or a structure that `check_structure` refuses.
    """
    for text in inputs:  # find missing files before reading the first
        if not os.path.exists(text):
            _require_smiles(text)
    records = [record for text in inputs for record in _read(text)]
    for record in records:
        check_structure(record.atoms, f"{record.file}, frame {record.index}")
    return records


def check_structure(atoms: ase.Atoms, where: str) -> None:
    """Refuse a structure that has no energy: `where` names it in the message.

    Raises:
        ValueError: no atoms, an unknown element, partly occupied sites, a position or cell vector that is not finite,
            or periodic axes without independent cell vectors.
    """
    if len(atoms) == 0:
        raise ValueError(f"{where}: has no atoms; remove it from the input")
    unknown = np.flatnonzero(atoms.numbers <= 0)
    if len(unknown):
        raise ValueError(f"{where}: atom {unknown[0]} is of no known element (X); give it one")
    occupancy = atoms.info.get("occupancy")  # ASE's CIF reader keeps the major species and notes the rest here
    if isinstance(occupancy, dict) and any(part < 0.999 for site in occupancy.values() for part in site.values()):
        raise ValueError(f"{where}: has partly occupied sites; make an ordered structure first")
    broken = np.flatnonzero(~np.isfinite(atoms.positions).all(axis=1))
    if len(broken):
        raise ValueError(f"{where}: the position of atom {broken[0]} is not finite; correct it")
    if not np.isfinite(atoms.cell.array).all():
        raise ValueError(f"{where}: the cell is not finite; correct it")
    if not independent(atoms.cell.array[atoms.pbc]):
        raise ValueError(
            f"{where}: periodic, but its cell is singular; give independent cell vectors or set pbc to False"
        )


def _require_smiles(text: str) -> None:
    try:
        parse_smiles(text)
    except ValueError as error:
        raise FileNotFoundError(f"no file {text!r}, check the path; nor a molecule: {error}") from error


def _read(text: str) -> list[StructureRecord]:
    if not os.path.exists(text):
        return [StructureRecord(text, 0, atoms_from_smiles(text))]
    try:
        frames = ase.io.read(text, index=":", do_not_split_by_at_sign=True)
    except Exception as error:  # ASE's readers raise anything, from KeyError to AssertionError
        reason = ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])
        raise ValueError(
            f"{text}: cannot be read ({reason}); check that it is complete and of a format ASE reads"
        ) from error
    if not frames:
        raise ValueError(f"{text}: holds no structure; check that it is complete")
    return [StructureRecord(text, index, atoms) for index, atoms in enumerate(frames)]
