"""Read molecules to be judged, however broken, and what they are compared with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import ase

from atomsml.dataset.columns import atomic_numbers
from atomsml.generative.molecules.data import hdf5_molecules
from atomsml.generative.molecules.metrics.composition import EMBEDDED, embedded_profile
from atomsml.generative.molecules.metrics.evaluate import Reference
from atomsml.io import Refused, StructureRecord, geometry_fault, read_records, with_bond_orders
from atomsml.io.formats.rdkit_molecules import sdf_mols
from atomsml.io.formats.run_trajectory import HDF5
from atomsml.io.formats.smiles import smiles_lines
from atomsml.io.formats.source import Source, format_suffix
from atomsml.io.formats.table import FORMATS
from atomsml.io.records import fault

SMILES = (".smi", ".smiles", ".txt", ".csv")


def read_generated(path: str | Path) -> list[ase.Atoms]:
    """The molecules of a file.

    Raises:
        OSError: no such file.
        ValueError: a file that cannot be read, or the first record that `generated_records` refuses.
    """
    return [_molecule(record) for record in generated_records(path)]


def generated_records(path: str | Path, format: str | None = None) -> Iterator[StructureRecord | Refused]:
    """The molecules of a file, .h5 or of any format that `atomsml.io.read_records` reads, and what is none in space.

    Refused is what is flat, without its hydrogens, periodic, without atoms, or has a position that is not finite.

    Raises:
        OSError: no such file.
        ValueError: an HDF5 file that cannot be read, or a format that is not known.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; check the path")
    if format is None and format_suffix(path) in HDF5:
        records = _read_hdf5(path)
    elif format == "sdf" or (format is None and format_suffix(path) in FORMATS["sdf"].suffixes):
        records = _read_sdf(path)
    else:
        records = read_records([str(path)], format)
    empty = True
    for record in records:
        empty = False
        reason = None if isinstance(record, Refused) else fault(record.atoms) or _periodic(record.atoms)
        yield record if reason is None else Refused(record.file, record.index, reason)
    if empty:
        yield Refused(str(path), None, "holds no molecule; check that it is complete")


def _periodic(atoms: ase.Atoms) -> str | None:
    return "is periodic; give molecules, without a cell" if atoms.pbc.any() else None


def read_reference(path: str | Path) -> Reference:
    """A reference of molecules, or of SMILES: the first word of each line, or the column `smiles` of a .csv.

    Where there is no such file, the name of one that comes with atomsml (`composition.EMBEDDED`) is its profile.

    Raises:
        OSError: no such file.
        ValueError: a file that cannot be read, or a line that is no SMILES.
    """
    path = Path(path)
    if str(path) in EMBEDDED and not path.exists():
        return Reference(str(path), profile=embedded_profile(str(path)))
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


def _molecule(record: StructureRecord | Refused) -> ase.Atoms:
    if isinstance(record, Refused):
        raise ValueError(str(record))
    return record.atoms


def _read_sdf(path: Path) -> Iterator[StructureRecord | Refused]:
    """Without the bonds: a record whose valences are wrong is what there is to judge, one without hydrogens is not."""
    for index, mol in enumerate(sdf_mols(Source(path))):
        if mol is None:
            yield Refused(str(path), index, "is no readable SDF record; correct or remove it")
            continue
        numbers = [atom.GetAtomicNum() for atom in mol.GetAtoms()]
        reason = geometry_fault(mol)
        if reason is not None and (1 not in numbers or not mol.GetConformer().Is3D()):
            yield Refused(str(path), index, reason)
        else:
            yield StructureRecord(str(path), index, ase.Atoms(numbers, mol.GetConformer().GetPositions()))


def _read_hdf5(path: Path) -> Iterator[StructureRecord | Refused]:
    for index, (row, places) in enumerate(zip(*hdf5_molecules(path), strict=True)):
        yield StructureRecord(str(path), index, ase.Atoms(atomic_numbers(row), places))


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
