"""Lists of SMILES: a molecule on each line, or in the column `smiles` of a CSV table."""

from __future__ import annotations

import csv
from collections.abc import Iterator

from atomsml.io.formats.source import Source, format_suffix
from atomsml.io.molecules import atoms_from_smiles
from atomsml.io.records import Refused, StructureRecord, record_of

NAMES = ("name", "id", "title")  # columns of a table that may name its molecules


def read_smiles(source: Source) -> Iterator[StructureRecord | Refused]:
    """Molecules of a list of SMILES, embedded; the name that stands beside a SMILES becomes the field `name`."""
    for index, (line, smiles, name) in enumerate(smiles_lines(source)):
        try:
            atoms = atoms_from_smiles(smiles)
        except ValueError as error:
            yield Refused(source.name, index, f"line {line}: {error}")
        else:
            named = {"name": name} if name else {}
            atoms.info |= named
            yield record_of(source.name, index, atoms, {"smiles": smiles, **named})


def smiles_lines(source: Source) -> Iterator[tuple[int, str, str]]:
    """(number of the line, SMILES, name or "") of each molecule; lines that are empty or start with # have none.

    Raises:
        ValueError: a table without a column `smiles`.
    """
    with source.open_text() as file:
        if format_suffix(source.path) == ".csv":
            yield from _table(csv.DictReader(file))
            return
        for number, line in enumerate(file, start=1):
            smiles, _, name = line.strip().replace("\t", " ").partition(" ")
            if smiles and not smiles.startswith("#") and not (number == 1 and smiles.lower() == "smiles"):
                yield number, smiles, name.strip()


def _table(rows: csv.DictReader[str]) -> Iterator[tuple[int, str, str]]:
    by_name = {column.strip().lower(): column for column in rows.fieldnames or ()}
    if "smiles" not in by_name:
        raise ValueError("has no column smiles; its first line must name the columns")
    name = next((by_name[column] for column in NAMES if column in by_name), None)
    for row in rows:
        smiles = (row[by_name["smiles"]] or "").strip()
        if smiles:
            yield rows.line_num, smiles, "" if name is None else (row[name] or "").strip()
