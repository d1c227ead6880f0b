"""Which reader reads which file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from atomsml.config import choose
from atomsml.io.formats.arrays import read_npz
from atomsml.io.formats.ase_formats import read_by_ase, read_database
from atomsml.io.formats.extxyz import read_extxyz
from atomsml.io.formats.lammps import read_lammps_data
from atomsml.io.formats.pymatgen_json import read_json
from atomsml.io.formats.rdkit_molecules import read_mol2, read_pdb, read_sdf
from atomsml.io.formats.run_trajectory import HDF5, read_trajectory
from atomsml.io.formats.smiles import read_smiles
from atomsml.io.formats.source import Source, format_suffix, plain_name
from atomsml.io.records import Refused, StructureRecord


@dataclass(frozen=True)
class Format:
    """A reader, and the names of the files that it reads."""

    about: str
    suffixes: tuple[str, ...]
    read: Callable[[Source], Iterator[StructureRecord | Refused]]


FORMATS = {
    "extxyz": Format("XYZ and extended XYZ, QM9 as published", (".xyz", ".extxyz"), read_extxyz),
    "sdf": Format("SDF and MOL, V2000 and V3000", (".sdf", ".sd", ".mol"), read_sdf),
    "mol2": Format("MOL2", (".mol2",), read_mol2),
    "pdb": Format("PDB", (".pdb", ".ent"), read_pdb),
    "smiles": Format("a list of SMILES, or a table with a column smiles", (".smi", ".smiles", ".csv"), read_smiles),
    "database": Format("an ASE database", (".db",), read_database),
    "json": Format("JSON of pymatgen or ASE", (".json",), read_json),
    "npz": Format("arrays of NumPy", (".npz",), read_npz),
    "trajectory": Format("a run of atomsml md", HDF5, read_trajectory),
    "lammps-data": Format("a LAMMPS data file", (".data", ".lmp", ".lammps", ".lammps-data"), read_lammps_data),
}


def reader_of(path: Path, format: str | None) -> Callable[[Source], Iterator[StructureRecord | Refused]]:
    """The reader of a format, a name of the table or of ASE; without one by the name of the file, failing that ASE's.

    Raises:
        ValueError: a name that is neither.
    """
    from ase.io.formats import ioformats

    if format is None:
        suffix = format_suffix(path)
        known = next((each for each in FORMATS.values() if suffix in each.suffixes), None)
        return read_by_ase if known is None else known.read
    if format in FORMATS or format not in ioformats:
        return FORMATS[choose("--format", format, FORMATS)].read
    return lambda source: read_by_ase(source, format)


def format_name(path: Path) -> str | None:
    """The name of the format that the name of a file means: one of the table, or of ASE; None if of neither."""
    from ase.io.formats import UnknownFileTypeError, filetype, ioformats

    known = next((name for name, each in FORMATS.items() if format_suffix(path) in each.suffixes), None)
    if known is not None:
        return known
    try:
        format = filetype(plain_name(path), read=False)
    except UnknownFileTypeError:  # no suffix at all
        return None
    return format if format in ioformats else None
