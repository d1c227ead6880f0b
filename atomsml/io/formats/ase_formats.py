"""Whatever ASE reads: trajectories, CIF, VASP, outputs of programs; and databases with their units."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ase

from atomsml.io.formats.declared_sizes import check_poscar, check_ulm
from atomsml.io.formats.source import Source
from atomsml.io.formats.stated_units import in_our_units, unit_factor
from atomsml.io.records import Refused, StructureRecord, fields_of, record_of

# by the format of ASE: for which sizes ASE would make room, whatever they are
DECLARED = {"traj": check_ulm, "gpw": check_ulm, "vasp": check_poscar, "vasp-xdatcar": check_poscar}


def read_by_ase(source: Source, name: str | None = None) -> Iterator[StructureRecord | Refused]:
    """All structures of a file in the format `name` of ASE, or the one that ASE takes it for.

    Raises:
        ValueError: a file that ASE cannot read.
    """
    try:
        images = _images(source, name)
    except MemoryError:
        raise
    except Exception as error:  # ASE's readers raise anything, from KeyError to AssertionError
        if isinstance(error, OSError) and error.filename is not None:  # else of a content that names no place
            raise
        raise ValueError(
            f"cannot be read ({one_line(error)}); check that it is complete and of a format that is known"
        ) from error
    for index, atoms in enumerate(images):
        try:
            yield in_our_units(record_of(source.name, index, atoms))
        except ValueError as error:
            yield Refused(source.name, index, str(error))


def _images(source: Source, name: str | None) -> list[ase.Atoms]:
    from ase.io.formats import ioformats

    if not source.is_marked():
        with source.plain_file() as path:
            format = name or ase_format(path)
            try:
                return _read(path, format)
            except UnicodeDecodeError:  # Latin-1
                if ioformats[format].isbinary:
                    raise
    with source.plain_file(as_text=True) as path:
        return _read(path, name or ase_format(path))


def _read(path: Path, name: str) -> list[ase.Atoms]:
    import ase.io

    if name == "lammps-dump-text" and not _names_elements(path):  # ASE would take type 1 for hydrogen
        raise ValueError("its atoms have types and no elements; dump the column element")
    if name in DECLARED:
        DECLARED[name](path)
    images = ase.io.read(path, index=":", format=name, do_not_split_by_at_sign=True)
    return images if isinstance(images, list) else [images]


def _names_elements(path: Path) -> bool:
    """Whether every frame of a LAMMPS dump has a column with elements."""
    with path.open(encoding="utf-8") as file:
        return all("element" in line.split() for line in file if line.startswith("ITEM: ATOMS"))


def ase_format(path: Path) -> str:
    from ase.io.formats import filetype

    return str(filetype(str(path)))


def one_line(error: Exception) -> str:
    return ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])


def read_database(source: Source) -> Iterator[StructureRecord | Refused]:
    """Rows of an ASE database: results, key-value pairs and data are all fields, in the units that its metadata say.

    Those are `_property_unit_dict` and `_distance_unit` of SchNetPack, or the third word of ASE's `key_descriptions`.

    Raises:
        ValueError: a file that is no such database, or a unit of energies, forces or lengths that is not known.
    """
    from ase.db import connect

    with source.plain_file() as path:
        try:
            database = connect(path, type="db")
            units = stated_units(database.metadata)
            for index, row in enumerate(database.select()):
                atoms = row.toatoms()
                atoms.info |= row.key_value_pairs
                record = record_of(source.name, index, atoms, {**fields_of(atoms), **row.data, **row.key_value_pairs})
                yield in_our_units(record, units) if units else in_our_units(record)
        except (OSError, ValueError):
            raise
        except Exception as error:  # sqlite3 and ASE raise anything
            raise ValueError(f"cannot be read as an ASE database ({one_line(error)})") from error


def stated_units(metadata: dict[str, Any]) -> dict[str, str]:
    """Units by field, and of "length", that the metadata of an ASE database state.

    Those that are no product of energies, lengths and charges, such as GHz, are of no label and left as they are.

    Raises:
        ValueError: an unknown unit of lengths, or of what is called energy, forces, stress or virial.
    """
    described = metadata.get("key_descriptions") or {}
    found = {
        key: words[2]
        for key, words in described.items()
        if isinstance(words, list | tuple) and len(words) == 3 and words[2]
    }
    found |= metadata.get("_property_unit_dict") or {}
    known = {}
    for key, unit in found.items():
        try:
            unit_factor(str(unit))
        except ValueError:
            if any(word in key.lower() for word in ("energy", "force", "stress", "virial")):
                raise ValueError(f"{key} has the unit {unit!r}, which is not known; convert to eV and A") from None
        else:
            known[key] = str(unit)
    distance = metadata.get("_distance_unit")
    if distance:
        unit_factor(str(distance))
        known["length"] = str(distance)
    return known
