"""Read molecules for generators: files of any format of `atomsml.io.read`, and HDF5 with SMILES.

Bonds are those of an SDF record, or of a SMILES string whose atoms, with hydrogens added by RDKit, are in the order of
the file; that they are is checked by elements and distances. RDKit perceives aromaticity in both, so that the same
molecule has the same bonds wherever it comes from. Elsewhere bonds are unknown.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase
import numpy as np

from atomsml.dataset.formats.hdf5 import GEOMETRY, plain_fields
from atomsml.electronic_state import state_of_fields
from atomsml.generative.core.sampling import batches_of_like_size
from atomsml.generative.molecules.set import MoleculeSet
from atomsml.io import Refused, bonds_of_mol, mol_from_positions, read_records
from atomsml.io.formats.run_trajectory import HDF5
from atomsml.io.formats.source import format_suffix
from atomsml.io.hdf5_safety import open_hdf5, read_array

OVERLAP = 0.5  # A: no two atoms of a molecule are closer; H2 has 0.74
BONDED = 1.3  # times the sum of the covalent radii: atoms that are further apart are not bonded
BLOCK = 500_000  # pairs of atoms that are checked at a time


def read_molecules(paths: Sequence[str | Path]) -> MoleculeSet:
    """The molecules of some files, one after the other: of any format that `atomsml.io.read` reads, or .h5.

    An HDF5 file has flat arrays `offsets`, `numbers` and `positions`, and `smiles` where bonds are known. Properties
    are what a file says in one number about each molecule: keys of comment lines, data fields, further arrays. Ions, by
    formal charges or a stated charge, are left out and counted among the warnings: generators draw neutral molecules.

    Raises:
        OSError: no such file.
        ValueError: a file or a record that cannot be read, a file that is empty or holds ions alone, or a molecule that
            cannot be trained on: periodic, without explicit hydrogens, with a position that is not finite, or with
            overlapping atoms.
    """
    return MoleculeSet.concatenate([_read(Path(path)) for path in paths])


def _read(path: Path) -> MoleculeSet:
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; check the path")
    molecules, charges = _read_hdf5(path) if format_suffix(path) in HDF5 else _read_records(path)
    if len(molecules) == 0:
        raise ValueError(f"{path}: holds no molecule; check that it is complete")
    return _neutral(_checked(molecules, str(path)), charges, path)


def _neutral(molecules: MoleculeSet, charges: Sequence[float | None], path: Path) -> MoleculeSet:
    """Without those whose total charge is known not to be zero."""
    charged = np.array([bool(charge) for charge in charges])
    if not charged.any():
        return molecules
    what = _count(path, np.flatnonzero(charged).tolist(), len(charged), "are not neutral and are left out")
    if charged.all():
        raise ValueError(f"{what}: none remain, and generators draw neutral molecules; give some")
    return replace(molecules.subset(np.flatnonzero(~charged)), warnings=(*molecules.warnings, what))


def _read_records(path: Path) -> tuple[MoleculeSet, Sequence[float | None]]:
    """And the charges that are stated, as of the reader below."""
    numbers, positions, bonds, charges, strange = [], [], [], [], []
    fields: list[Mapping[str, Any]] = []
    for record in read_records([str(path)]):
        if isinstance(record, Refused):
            raise ValueError(str(record))
        if record.atoms.pbc.any():
            raise ValueError(f"{path}, frame {record.index}: is periodic; give molecules, without a Lattice or pbc")
        known = "bonds" in record.atoms.info
        numbers.append(record.atoms.numbers)
        positions.append(record.atoms.positions)
        bonds.append(_perceived_bonds(record.atoms) if known else None)
        charges.append(state_of_fields({**record.fields, **record.atoms.info}).charge)
        fields.append(record.fields)
        if known and bonds[-1] is None:
            strange.append(record.index)
    warnings = [] if not strange else [_count(path, strange, len(numbers), "have valences that RDKit refuses")]
    return MoleculeSet.from_rows(numbers, positions, bonds, _columns(fields), warnings, str(path)), charges


def _perceived_bonds(atoms: ase.Atoms) -> np.ndarray | None:
    """Bonds as the file has them, but aromatic where RDKit finds them so; None where it refuses the valences."""
    from rdkit import Chem
    from rdkit.rdBase import BlockLogs

    charges = [round(charge) for charge in atoms.get_initial_charges()]
    mol = mol_from_positions(atoms.numbers.tolist(), atoms.positions, atoms.info["bonds"].tolist(), charges)
    with BlockLogs():
        if Chem.SanitizeMol(mol, catchErrors=True) != Chem.SanitizeFlags.SANITIZE_NONE:
            return None
    return bonds_of_mol(mol)


def _read_hdf5(path: Path) -> tuple[MoleculeSet, Sequence[float | None]]:
    rows, places = hdf5_molecules(path)
    present, count = plain_fields(path)
    with open_hdf5(path) as file:
        if "smiles" in present and file["smiles"].shape != (count,):
            raise ValueError(f"{path}: smiles must be one text for each of {count} molecules")
        smiles = read_array(file["smiles"], text=True) if "smiles" in present else [None] * count
        properties = {
            name: read_array(file[name]).astype(np.float64)
            for name in present
            if name not in GEOMETRY and file[name].shape == (count,) and file[name].dtype.kind in "fiu"
        }
    bonds = [None if s is None else bonds_from_smiles(s, *each) for s, *each in zip(smiles, rows, places, strict=True)]
    lost = [i for i, (s, row) in enumerate(zip(smiles, bonds, strict=True)) if s is not None and row is None]
    warnings = [] if not lost else [_count(path, lost, count, "do not fit their SMILES")]
    said = [state_of_fields({name: values[i] for name, values in properties.items()}) for i in range(count)]
    charges = [_formal_charge(text) if text else state.charge for text, state in zip(smiles, said, strict=True)]
    return MoleculeSet.from_rows(rows, places, bonds, properties, warnings, str(path)), charges


def _formal_charge(smiles: str) -> float | None:
    """None of what RDKit cannot read."""
    from rdkit import Chem
    from rdkit.rdBase import BlockLogs

    if not set("+-") & set(smiles):  # as most, which need not be parsed for it
        return 0
    with BlockLogs():
        mol = Chem.MolFromSmiles(smiles)
    return None if mol is None else Chem.GetFormalCharge(mol)


def hdf5_molecules(path: Path) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Atomic numbers and positions of each molecule of an HDF5 file.

    Raises:
        ValueError: no HDF5, arrays that lack or do not fit, or periodic structures.
    """
    _, count = plain_fields(path)
    with open_hdf5(path) as file:
        if "pbc" in file and read_array(file["pbc"]).any():
            raise ValueError(f"{path}: has periodic structures; give molecules")
        offsets, numbers = read_array(file["offsets"]).astype(np.int64), read_array(file["numbers"])
        positions = read_array(file["positions"]).astype(np.float64)
    if count == 0:  # of which np.split would make one
        return [], []
    return np.split(numbers, offsets[1:-1]), np.split(positions, offsets[1:-1])


def bonds_from_smiles(smiles: str, numbers: np.ndarray, positions: np.ndarray) -> np.ndarray | None:
    """(bonds, 3) of a SMILES string whose atoms, hydrogens last, are these; None where they are not.

    They are if the elements agree one by one and no bond is longer than 1.3 times the sum of the covalent radii.
    """
    from ase.data import covalent_radii
    from rdkit import Chem
    from rdkit.rdBase import BlockLogs

    with BlockLogs():
        mol = Chem.MolFromSmiles(smiles)
        if mol is None:
            return None
        mol = Chem.AddHs(mol)
    if [atom.GetAtomicNum() for atom in mol.GetAtoms()] != numbers.tolist():
        return None
    bonds = bonds_of_mol(mol)
    i, j = bonds[:, 0], bonds[:, 1]
    lengths = np.linalg.norm(positions[i] - positions[j], axis=1)
    return bonds if (lengths < BONDED * (covalent_radii[numbers[i]] + covalent_radii[numbers[j]])).all() else None


def _columns(fields: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Of what the molecules say, the numbers; NaN where one lacks."""
    columns: dict[str, np.ndarray] = defaultdict(lambda: np.full(len(fields), np.nan))
    for i, row in enumerate(fields):
        for name, value in row.items():
            if isinstance(value, int | float | np.number) and not isinstance(value, bool):
                columns[name][i] = value
    return dict(columns)


def _checked(molecules: MoleculeSet, where: str) -> MoleculeSet:
    """Refuse molecules that cannot be trained on, and warn of those in several pieces."""
    sizes = molecules.sizes
    if (sizes == 0).any():
        raise ValueError(f"{where}: molecule {np.argmin(sizes)} (counted from 0) has no atoms; remove it")
    sample = np.repeat(np.arange(len(molecules)), sizes)
    for what, broken in (
        ("a position that is not finite", ~np.isfinite(molecules.positions).all(axis=1)),
        ("an atom of no known element", molecules.numbers == 0),
    ):
        if broken.any():
            raise ValueError(f"{where}: molecule {sample[broken][0]} (counted from 0) has {what}; correct or remove it")
    overlapping, broken_up = np.zeros(len(molecules), bool), np.zeros(len(molecules), bool)
    for rows in batches_of_like_size(sizes.tolist(), BLOCK):
        overlapping[rows], broken_up[rows] = _distances(molecules, np.array(rows))
    if overlapping.any():
        raise ValueError(
            f"{where}: molecule {np.argmax(overlapping)} (counted from 0) has atoms closer than {OVERLAP} A; "
            "correct or remove it"
        )
    pieces = np.flatnonzero(broken_up).tolist()
    if not pieces:
        return molecules
    warning = _count(where, pieces, len(molecules), "are of several pieces, as will be what is learnt from them")
    return replace(molecules, warnings=(*molecules.warnings, warning))


def _distances(molecules: MoleculeSet, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each molecule, whether atoms overlap, and whether it is in several pieces."""
    from ase.data import covalent_radii
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    batch = molecules.batch(rows)
    mask, positions = batch.mask.numpy(), batch.positions.numpy()
    nodes = mask.shape[1]
    pair = mask[:, :, None] & mask[:, None, :] & ~np.eye(nodes, dtype=bool)
    distance = np.linalg.norm(positions[:, :, None] - positions[:, None], axis=-1)
    radii = covalent_radii[batch.numbers.numpy()]
    near = distance < BONDED * (radii[:, :, None] + radii[:, None])
    sample, i, j = np.nonzero(pair & near)
    edges = coo_array((np.ones(len(i), bool), (nodes * sample + i, nodes * sample + j)), shape=(mask.size, mask.size))
    piece = connected_components(edges)[1].reshape(mask.shape)
    return (pair & (distance < OVERLAP)).any(axis=(1, 2)), (mask & (piece != piece[:, :1])).any(axis=1)


def _count(where: str | Path, rows: Sequence[int], count: int, what: str) -> str:
    return f"{where}: {len(rows)} of {count} molecules {what} (the first is molecule {rows[0]}, counted from 0)"
