"""From the atoms of a file to chains: one place for every atom, whole residues, runs of bonded ones."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from atomsml.generative.core.rotations import quaternion_to_matrix
from atomsml.generative.proteins.backbones import Chain
from atomsml.generative.proteins.geometry import ATOMS, frames_of, oxygens_of

BONDED = 2.0  # A, at most from C to the next N; the bond has 1.34
FLAT = 0.1  # A^2, at least |CA-N x CA-C|; it is 2.1, and zero where a program writes zeros for atoms that it lacks
_CODES = (
    "ALA A ARG R ASN N ASP D CYS C GLN Q GLU E GLY G HIS H ILE I "
    "LEU L LYS K MET M PHE F PRO P SER S THR T TRP W TYR Y VAL V"
)
# residues that are made from one of the twenty, and names by which programs of simulation tell protonation states
_MODIFIED = (
    "MSE M SEP S TPO T PTR Y HYP P CSO C CSD C CME C OCS C CAS C MLY K M3L K MLZ K ALY K KCX K LLP K PCA E CGU E "
    "HID H HIE H HIP H HSD H HSE H HSP H CYX C CYM C ASH D GLH E LYN K"
)
ONE_LETTER = dict(zip(*[iter(f"{_CODES} {_MODIFIED}".split())] * 2, strict=True))
THREE_LETTERS = {letter: name for name, letter in zip(*[iter(_CODES.split())] * 2, strict=True)} | {"X": "UNK"}


class Atom(NamedTuple):
    """One of N, CA, C and O, as a file has it."""

    model: int  # counted from 1
    chain: str
    part: str  # of the chain: at TER, and in mmCIF from the polymer to what is bound to it, another begins
    label: str  # the number of the residue with its insertion code
    residue: str  # its name
    hetero: bool  # of a record HETATM: a modified residue, or no residue at all
    name: str
    alternative: str  # its letter where it has several places; or empty
    occupancy: float
    place: tuple[float, float, float]


class Residue(NamedTuple):
    """A residue that has N, CA and C, not on one line; a missing O is NaN."""

    model: int
    chain: str
    part: str
    label: str
    letter: str
    hetero: bool
    coordinates: np.ndarray  # (4, 3)


def chains_of(atoms: Iterable[Atom], file: str, split: bool) -> list[Chain]:
    """Chains of whole residues, in the order of the file; see `read_chains`."""
    residues = [residue for atoms_of_one in _grouped(atoms) if (residue := _residue(atoms_of_one)) is not None]
    runs: list[list[Residue]] = []
    for residue in residues:
        if runs and _are_bonded(runs[-1][-1], residue):
            runs[-1].append(residue)
        else:
            runs.append([residue])
    # a lone one in HETATM is an amino acid or a ligand that was bound, whose atoms have these names
    runs = [run for run in runs if len(run) > 1 or not run[0].hetero]
    for run in runs:
        _place_oxygens(run)
    if not split:
        runs = _joined(runs)
    several = residues and residues[-1].model > 1
    return [_chain(run, f"{file}, model {run[0].model}" if several else file) for run in runs]


def _grouped(atoms: Iterable[Atom]) -> list[list[Atom]]:
    """The atoms of each residue. One that has an atom already ends where that comes again, as where numbers restart."""
    groups: list[list[Atom]] = []
    latest: dict[tuple[int, str, str, str], tuple[list[Atom], set[tuple[str, str]]]] = {}
    for atom in atoms:
        key, place = (atom.model, atom.chain, atom.part, atom.label), (atom.name, atom.alternative)
        if key not in latest or place in latest[key][1]:
            latest[key] = ([], set())
            groups.append(latest[key][0])
        latest[key][0].append(atom)
        latest[key][1].add(place)
    return groups


def _residue(atoms: Sequence[Atom]) -> Residue | None:
    """In its alternative of the highest mean occupancy, the first of equal ones, of those that have N, CA and C."""
    by_letter: dict[str, list[Atom]] = defaultdict(list)
    for atom in atoms:
        by_letter[atom.alternative].append(atom)
    common = by_letter.pop("", [])
    best, most = None, -np.inf
    for own in by_letter.values() or [[]]:
        named = {atom.name: atom for atom in [*common, *own]}
        occupancy = float(np.mean([atom.occupancy for atom in own])) if own else 0.0
        if {"N", "CA", "C"} <= named.keys() and occupancy > most:
            best, most = (named, (own or common)[0]), occupancy
    if best is None:
        return None
    named, first = best
    nowhere = (np.nan,) * 3
    coordinates = np.array([named[name].place if name in named else nowhere for name in ATOMS])
    n, ca, c = coordinates[:3]
    if np.linalg.norm(np.cross(n - ca, c - ca)) < FLAT:  # it has no orientation
        return None
    letter = ONE_LETTER.get(first.residue, "X")
    return Residue(first.model, first.chain, first.part, sys.intern(first.label), letter, first.hetero, coordinates)


def _are_bonded(one: Residue, following: Residue) -> bool:
    same = one[:3] == following[:3]
    return bool(same and np.linalg.norm(one.coordinates[2] - following.coordinates[0]) <= BONDED)


def _joined(runs: Sequence[list[Residue]]) -> list[list[Residue]]:
    """The runs of one chain as one."""
    chains: dict[tuple[int, str, str], list[Residue]] = defaultdict(list)
    for run in runs:
        chains[run[0][:3]] += run
    return list(chains.values())


def _place_oxygens(run: Sequence[Residue]) -> None:
    """Give those that lack O one in the plane of CA, C and the next N."""
    coordinates = torch.from_numpy(np.stack([residue.coordinates for residue in run]))
    missing = torch.isnan(coordinates[:, 3, 0])
    if missing.any():
        quaternions, _ = frames_of(coordinates)
        places = oxygens_of(quaternion_to_matrix(quaternions), *coordinates[:, :3].unbind(dim=1)).numpy()
        for index in torch.nonzero(missing).flatten().tolist():
            run[index].coordinates[3] = places[index]


def _chain(run: Sequence[Residue], where: str) -> Chain:
    return Chain(
        np.stack([residue.coordinates for residue in run]),
        "".join(residue.letter for residue in run),
        tuple(residue.label for residue in run),
        run[0].chain,
        where=where,
    )
