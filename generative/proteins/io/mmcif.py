"""mmCIF, read by gemmi."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from atomsml.generative.proteins.backbones import Chain
from atomsml.generative.proteins.geometry import ATOMS
from atomsml.generative.proteins.io.pdb import LABEL
from atomsml.generative.proteins.io.residues import THREE_LETTERS, Atom
from atomsml.io.records import FARTHEST

COLUMNS = (
    *("group_PDB", "id", "type_symbol", "label_atom_id", "label_alt_id", "label_comp_id", "label_asym_id"),
    *("label_entity_id", "label_seq_id", "pdbx_PDB_ins_code", "Cartn_x", "Cartn_y", "Cartn_z", "occupancy"),
    *("B_iso_or_equiv", "auth_seq_id", "auth_asym_id", "pdbx_PDB_model_num"),
)


def mmcif_atoms(text: str) -> Iterator[Atom]:
    """The backbone atoms of a file; chains and numbers are those of the authors, as in PDB.

    Raises:
        ValueError: no mmCIF, a number that is not finite, or gemmi is not installed.
    """
    gemmi = _gemmi()
    try:
        structures = [gemmi.make_structure_from_block(block) for block in gemmi.cif.read_string(text)]
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"is no mmCIF ({error}); take another copy of the file") from error
    models = [model for structure in structures for model in structure]
    for number, model in enumerate(models, start=1):
        for chain in model:
            for residue in chain:
                yield from _atoms(residue, number, chain.name)


def _atoms(residue: Any, model: int, chain: str) -> Iterator[Atom]:
    label = f"{residue.seqid.num}{residue.seqid.icode.strip()}"
    for atom in residue:
        if atom.name not in ATOMS or atom.element.name != atom.name[0]:  # calcium is a CA as well
            continue
        x, y, z = atom.pos.tolist()
        if not all(abs(value) <= FARTHEST for value in (x, y, z, atom.occ)):
            raise ValueError(
                f"chain {chain}, residue {label}: {atom.name} has a number that is not finite, or no length; correct it"
            )
        yield Atom(
            model,
            chain,
            residue.subchain,
            label,
            residue.name,
            residue.het_flag == "H",
            atom.name,
            atom.altloc.strip("\0"),
            atom.occ,
            (x, y, z),
        )


def mmcif_text(chains: Sequence[Chain]) -> str:
    """A file of one chain, or of one in each model.

    Raises:
        ValueError: a number of a residue that is none, or a coordinate that is not finite.
    """
    head = ["data_backbones", "#", "loop_", "_entity.id", "_entity.type", "1 polymer", "#", "loop_"]
    rows = [row for model, chain in enumerate(chains, start=1) for row in _rows(chain, model)]
    serials = range(1, len(rows) + 1)
    body = [f"ATOM {serial} {row}" for serial, row in zip(serials, rows, strict=True)]
    return "\n".join([*head, *(f"_atom_site.{column}" for column in COLUMNS), *body, "#", ""])


def _rows(chain: Chain, model: int) -> Iterator[str]:
    name = chain.name or "A"
    scores = np.zeros(len(chain)) if chain.scores is None else chain.scores
    if not (np.isfinite(chain.coordinates).all() and np.isfinite(scores).all()):
        raise ValueError("a coordinate or a score is not finite, which has no place in a file")
    if not re.fullmatch(r"\w+", name):
        raise ValueError(f"a chain of a file has a name of letters and digits, got {name!r}")
    residues = zip(chain.sequence, chain.labels, scores, chain.coordinates, strict=True)
    for index, (letter, label, score, places) in enumerate(residues, start=1):
        found = LABEL.fullmatch(label)
        if found is None:
            raise ValueError(f"the number of a residue is one, with an insertion code or without; got {label!r}")
        residue = THREE_LETTERS.get(letter, "UNK")
        for atom, (x, y, z) in zip(ATOMS, places, strict=True):
            yield (
                f"{atom[0]} {atom} . {residue} {name} 1 {index} {found[2] or '?'} {x:.3f} {y:.3f} {z:.3f} 1.00 "
                f"{score:.2f} {found[1]} {name} {model}"
            )


def _gemmi() -> ModuleType:
    try:
        import gemmi
    except ModuleNotFoundError as error:
        raise ValueError('mmCIF is read by gemmi; run "pip install atomsml[proteins]", or give PDB') from error
    return gemmi
