"""JSON of pymatgen structures, alone, in lists, in records with labels, or in dicts of dicts as MPtrj has them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import ase

from atomsml.io.formats.ase_formats import read_by_ase
from atomsml.io.formats.declared_sizes import check_json
from atomsml.io.formats.source import Source
from atomsml.io.formats.stated_units import in_our_units
from atomsml.io.records import Refused, StructureRecord, record_of


def read_json(source: Source) -> Iterator[StructureRecord | Refused]:
    """Structures of pymatgen, or what ASE writes as JSON.

    A record has a structure under `structure`; fields are its other keys, what is under `data`, and the properties of
    the structure and its sites. In dicts of records the outer key becomes the field `group`: of MPtrj the material.

    Raises:
        ValueError: no JSON, or no structure in it.
    """
    try:
        with source.open_text() as file:
            content = json.load(file)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"is not JSON ({error}); check that it is complete") from error
    if isinstance(content, dict) and ("ids" in content or "1" in content):  # the two layouts of ASE
        try:
            check_json(content)
        except (ValueError, TypeError) as error:
            raise ValueError(f"cannot be read ({error}); check that it is complete") from error
        yield from read_by_ase(source, "json")
        return
    found = False
    for index, (record, group) in enumerate(_records(content, None)):
        found = True
        try:
            yield in_our_units(_record(source.name, index, record, group))
        except Exception as error:  # pymatgen raises anything
            reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            yield Refused(source.name, index, f"cannot be read ({reason}); correct or remove it")
    if not found:
        raise ValueError("holds no structure of pymatgen or ASE; give a list or dict of records with one")


def _records(content: Any, group: str | None) -> Iterator[tuple[Any, str | None]]:
    """Records or bare structures, and the key of the dict that they are in."""
    if _is_structure(content) or (isinstance(content, dict) and isinstance(content.get("structure"), dict)):
        yield content, group
    elif isinstance(content, dict):
        for key, value in content.items():
            if isinstance(value, dict | list):
                yield from _records(value, key if group is None else group)
    elif isinstance(content, list):
        yield from ((value, group) for value in content)  # each must be a record


def _is_structure(content: Any) -> bool:
    return isinstance(content, dict) and isinstance(content.get("sites"), list)


def _record(file: str, index: int, record: Any, group: str | None) -> StructureRecord:
    from pymatgen.core import Molecule, Structure

    if not _is_structure(record) and not (isinstance(record, dict) and isinstance(record.get("structure"), dict)):
        raise ValueError("has no pymatgen structure, itself or under 'structure'")
    described = record if _is_structure(record) else record["structure"]
    if "lattice" in described:
        structure: Structure | Molecule = Structure.from_dict(described)
    else:
        structure = Molecule.from_dict(described)
    if not structure.is_ordered:
        raise ValueError("has partly occupied sites; make an ordered structure first")
    atoms = ase.Atoms([site.specie.Z for site in structure], structure.cart_coords.reshape(-1, 3))
    if isinstance(structure, Structure):
        atoms.set_cell(structure.lattice.matrix)
        atoms.pbc = structure.lattice.pbc
    return record_of(file, index, atoms, _fields(described, record, structure, group))


def _fields(
    described: Mapping[str, Any], record: Mapping[str, Any], structure: Any, group: str | None
) -> dict[str, Any]:
    fields = {**structure.properties, **structure.site_properties}
    stated = {"charge": described.get("charge"), "spin_multiplicity": described.get("spin_multiplicity")}
    fields |= {key: value for key, value in stated.items() if value is not None}
    if record is not described:
        data = record.get("data")
        fields |= data if isinstance(data, dict) else {}
        fields |= {key: value for key, value in record.items() if key not in ("structure", "data") and key[:1] != "@"}
    return fields if group is None else {"group": group, **fields}
