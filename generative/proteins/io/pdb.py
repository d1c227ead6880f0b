"""PDB: fixed columns, of which only the records of backbone atoms are read and written.

Format 3.30 of wwPDB: columns 13-16 atom, 17 alternative, 18-20 residue, 22 chain, 23-26 number, 27 insertion code,
31-54 coordinates, 55-60 occupancy, 61-66 B-factor, 77-78 element.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence

from atomsml.generative.proteins.backbones import Chain
from atomsml.generative.proteins.geometry import ATOMS
from atomsml.generative.proteins.io.residues import THREE_LETTERS, Atom
from atomsml.io.records import FARTHEST

LABEL = re.compile(r"(-?\d+)([A-Za-z]?)")  # the number of a residue and its insertion code
FIELDS = {"N": " N  ", "CA": " CA ", "C": " C  ", "O": " O  "}  # calcium is "CA  "
_NAMES = {field: name for name, field in FIELDS.items()}


def pdb_atoms(text: str) -> Iterator[Atom]:
    """The backbone atoms of a file.

    Raises:
        ValueError: a line that is cut off, or whose numbers are none or not finite; names the line.
    """
    model, part, begun = 1, 0, False
    for number, line in enumerate(text.split("\n"), start=1):
        record = line[:6]
        if record in ("ATOM  ", "HETATM"):
            begun = True
            if line[12:16] in _NAMES:
                try:
                    yield _atom(line, model, str(part))
                except ValueError as error:
                    raise ValueError(f"line {number} {error}") from None
        elif record.startswith("TER"):
            part += 1
        elif record.startswith(("MODEL", "END")) and begun:  # ENDMDL or END: what comes then is another model
            model, begun = model + 1, False


def _atom(line: str, model: int, part: str) -> Atom:
    label = line[22:27].strip()  # numbers above 9999 reach into the column of insertion codes
    if len(line.rstrip()) < 54:
        raise ValueError("is cut off before the coordinates end; take another copy of the file")
    if not LABEL.fullmatch(label):
        raise ValueError(f"has {label!r} for the number of the residue; correct it")
    try:
        x, y, z = (float(line[start : start + 8]) for start in (30, 38, 46))
        occupancy = float(line[54:60].strip() or 1)
    except ValueError:
        raise ValueError(f"has no numbers in the columns 31 to 60: {line[30:60]!r}; correct it") from None
    if not all(abs(value) <= FARTHEST for value in (x, y, z, occupancy)):
        raise ValueError(f"has a number that is not finite, or no length: {line[30:60].strip()!r}; correct it")
    return Atom(
        model,
        line[21].strip(),
        part,
        label,
        line[17:20].strip(),
        line.startswith("HETATM"),
        _NAMES[line[12:16]],
        line[16].strip(),
        occupancy,
        (x, y, z),
    )


def pdb_text(chains: Sequence[Chain]) -> str:
    """A file of one chain, or of one in each model.

    Raises:
        ValueError: a chain that does not fit into the columns; names it.
    """
    lines = []
    for model, chain in enumerate(chains, start=1):
        if len(chains) > 1:
            lines.append(f"MODEL     {model:4d}")
        lines += _chain_lines(chain)
        if len(chains) > 1:
            lines.append("ENDMDL")
    return "\n".join([*lines, "END", ""])


def _chain_lines(chain: Chain) -> Iterator[str]:
    name = chain.name or " "
    if len(name) > 1:
        raise ValueError(f"PDB has one letter for a chain, got {name!r}; write mmCIF, .cif")
    if 4 * len(chain) >= 99_999:
        raise ValueError(f"PDB holds 99,999 atoms in a chain, this one has {4 * len(chain):,}; write mmCIF, .cif")
    serial, end = 0, ""
    for index, (letter, label, places) in enumerate(zip(chain.sequence, chain.labels, chain.coordinates, strict=True)):
        found = LABEL.fullmatch(label)
        if found is None or len(found[1]) > 4:
            raise ValueError(f"PDB has four digits for the number of a residue, got {label!r}; write mmCIF, .cif")
        residue = f"{THREE_LETTERS.get(letter, 'UNK')} {name}{found[1]:>4}{found[2] or ' '}"
        score = _fitting(0.0 if chain.scores is None else chain.scores[index], 6, 2, "score")
        for atom, place in zip(ATOMS, places, strict=True):
            serial += 1
            x, y, z = (_fitting(value, 8, 3, "coordinate") for value in place)
            yield f"ATOM  {serial:5d} {FIELDS[atom]} {residue}   {x}{y}{z}  1.00{score}          {atom[0]:>2}  "
        end = f"TER   {serial + 1:5d}      {residue}"
    yield end


def _fitting(value: float, width: int, decimals: int, what: str) -> str:
    text = f"{value:{width}.{decimals}f}"
    if not math.isfinite(value) or len(text) > width:
        raise ValueError(
            f"a {what} of {value:g} does not fit into {width} columns of PDB; centre the chain, or scale it"
        )
    return text
