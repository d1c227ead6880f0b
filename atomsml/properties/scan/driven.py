"""What a scan drives: a length, angle or torsion, the values it takes, and the atoms that move with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import ase
import numpy as np
from ase.constraints import FixInternals
from numpy.typing import NDArray

if TYPE_CHECKING:
    from rdkit.Chem import Mol

Array = NDArray[np.float64]

KINDS = {"bond": 2, "angle": 3, "torsion": 4}  # atoms of each
LINEAR = 5.0  # degrees: an angle this near to 0 or 180 has no plane in which, nor about which, to turn
SAME = 1e-6  # degrees or A
MOST_POINTS = 10_000


@dataclass(frozen=True)
class Driven:
    """A coordinate as a user names it, and its values from `start` to `stop`.

    Raises:
        ValueError: an unknown kind, atoms that are not as many as the kind has, or named twice, or values that make no
            sense.
    """

    kind: str  # a key of KINDS
    atoms: tuple[int, ...] | str  # numbers from 0, or a SMARTS pattern
    start: float  # A or degrees
    stop: float
    step: float

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown kind {self.kind!r} of coordinate; there are {', '.join(KINDS)}")
        if not isinstance(self.atoms, str):
            _check_atoms(self.kind, self.atoms)
        if not all(map(np.isfinite, (self.start, self.stop, self.step))) or self.step == 0:
            raise ValueError(f"a range is START,STOP,STEP, three numbers of which the last is not 0; got {self.range}")
        if (self.stop - self.start) * self.step < 0:
            raise ValueError(f"the range {self.range} leads away from where it ends; turn the sign of its step")
        if abs((self.stop - self.start) / self.step) > MOST_POINTS:
            raise ValueError(f"the range {self.range} has more than {MOST_POINTS} points; take a larger step")
        if self.kind == "bond" and min(self.start, self.stop) <= 0.1:
            raise ValueError(f"lengths are numbers of A above 0.1, got the range {self.range}")
        if self.kind == "angle" and not LINEAR <= min(self.start, self.stop) <= max(self.start, self.stop) <= 175:
            raise ValueError(f"angles are scanned between {LINEAR:g} and {180 - LINEAR:g} degrees, got {self.range}")
        if self.kind == "torsion" and abs(self.stop - self.start) > 360 + SAME:
            raise ValueError(f"a torsion is scanned over 360 degrees at most, got the range {self.range}")

    @property
    def range(self) -> str:
        return f"{self.start:g},{self.stop:g},{self.step:g}"

    @property
    def closed(self) -> bool:
        """Whether the last value follows on the first: a torsion over all of its turn."""
        steps = 360 / abs(self.step)
        return (
            self.kind == "torsion"
            and abs(abs(self.stop - self.start) - 360) < SAME
            and abs(steps - round(steps)) < SAME
        )

    @property
    def values(self) -> Array:
        """A or degrees; of a closed torsion the end of the range, which is its start, is left out."""
        count = int(np.floor((self.stop - self.start) / self.step + SAME)) + (0 if self.closed else 1)
        return self.start + self.step * np.arange(count, dtype=np.float64)


def _check_atoms(kind: str, atoms: Sequence[int]) -> None:
    names = ",".join(map(str, atoms))
    if len(atoms) != KINDS[kind]:
        raise ValueError(f"a{'n' if kind == 'angle' else ''} {kind} is of {KINDS[kind]} atoms, not of {names}")
    if len(set(atoms)) < len(atoms):
        raise ValueError(f"the {kind} {names} names an atom twice")


@dataclass(frozen=True, eq=False)
class Coordinate:
    """A driven coordinate of one molecule."""

    kind: str
    atoms: tuple[int, ...]
    values: Array  # A or degrees
    closed: bool
    side: tuple[int, ...]  # the atoms that move as one when the coordinate changes
    matches: int  # places of the molecule that the pattern fits; this is the first
    double: bool  # whether it is a turn about a double bond, which breaks it on the way

    @property
    def name(self) -> str:
        return f"{self.kind} {'-'.join(map(str, self.atoms))}"

    @property
    def unit(self) -> str:
        return "A" if self.kind == "bond" else "deg"

    def value(self, atoms: ase.Atoms) -> float:
        if self.kind == "bond":
            return float(atoms.get_distance(*self.atoms))
        return float(atoms.get_angle(*self.atoms) if self.kind == "angle" else atoms.get_dihedral(*self.atoms))

    def turn(self, atoms: ase.Atoms, value: float) -> None:
        """Bring the coordinate to a value in place: its side moves as one."""
        first, second, *others = self.atoms
        if self.kind == "bond":
            atoms.set_distance(first, second, value, fix=0, indices=self.side)
        elif self.kind == "angle":
            atoms.set_angle(first, second, others[0], value, indices=self.side)
        else:
            atoms.set_dihedral(first, second, others[0], others[1], value, indices=self.side)

    def misses(self, atoms: ase.Atoms, value: float) -> bool:
        apart = self.value(atoms) - value
        return abs((apart + 180) % 360 - 180 if self.kind == "torsion" else apart) > 1e-4


def place(atoms: ase.Atoms, coordinates: Sequence[Coordinate], values: Sequence[float]) -> ase.Atoms:
    """A copy with the coordinates at values, which it holds by a FixInternals.

    Raises:
        ValueError: one coordinate changes with another.
    """
    copy = atoms.copy()
    for coordinate, value in zip(coordinates, values, strict=True):
        coordinate.turn(copy, value)
    rows = {kind: list[list[object]]() for kind in KINDS}
    for coordinate, value in zip(coordinates, values, strict=True):
        if coordinate.misses(copy, value):
            raise ValueError(f"the {coordinate.name} changes with the other that is scanned; choose independent ones")
        rows[coordinate.kind].append([float(value), list(coordinate.atoms)])
    copy.set_constraint(
        [*atoms.constraints, FixInternals(bonds=rows["bond"], angles_deg=rows["angle"], dihedrals_deg=rows["torsion"])]
    )
    return copy


def locate(driven: Driven, atoms: ase.Atoms, mol: Mol) -> Coordinate:
    """The coordinate in a molecule whose bonds are those of `mol`.

    Raises:
        ValueError: the atoms or the pattern are not there, nothing can be turned without breaking a ring, or an angle
            of it is linear.
    """
    of, matches = _matched(driven, mol) if isinstance(driven.atoms, str) else (driven.atoms, 1)
    names = "-".join(map(str, of))
    if not 0 <= min(of) <= max(of) < len(atoms):
        raise ValueError(f"has no {driven.kind} {names}: its atoms are 0 to {len(atoms) - 1}")
    stays, moves = of[-3:-1] if driven.kind == "torsion" else of[-2:]
    side = _beyond(mol, stays, moves)
    if stays in side:
        raise ValueError(f"the {driven.kind} {names} cannot be driven: its atoms {stays} and {moves} are of one ring")
    if set(of[: of.index(moves)]) & side or not set(of[of.index(moves) :]) <= side:
        raise ValueError(f"the {driven.kind} {names} cannot be driven: its atoms are no chain of bonds")
    for corner in zip(of, of[1:], of[2:], strict=False):
        angle = atoms.get_angle(*corner)
        if not LINEAR < angle < 180 - LINEAR:
            raise ValueError(f"the {driven.kind} {names} is not defined: its angle {corner} is {angle:.1f} degrees")
    bond = mol.GetBondBetweenAtoms(stays, moves)
    double = driven.kind == "torsion" and bond is not None and bond.GetBondTypeAsDouble() >= 2
    return Coordinate(driven.kind, of, driven.values, driven.closed, tuple(sorted(side)), matches, double)


def _beyond(mol: Mol, stays: int, moves: int) -> set[int]:
    """The atoms that hang on `moves` when its bond to `stays` is cut."""
    found, new = {moves}, [moves]
    while new:
        atom = new.pop()
        for neighbour in mol.GetAtomWithIdx(atom).GetNeighbors():
            other = neighbour.GetIdx()
            if other not in found and {atom, other} != {stays, moves}:
                found.add(other)
                new.append(other)
    return found


def _matched(driven: Driven, mol: Mol) -> tuple[tuple[int, ...], int]:
    """The atoms of the first match, in the order of its map numbers if it has some; and how many there are."""
    from rdkit import Chem
    from rdkit.rdBase import BlockLogs

    with BlockLogs():
        pattern = Chem.MolFromSmarts(driven.atoms)
    if pattern is None:
        raise ValueError(f"the SMARTS pattern {driven.atoms!r} of a {driven.kind} cannot be parsed")
    mapped = sorted((atom.GetAtomMapNum(), atom.GetIdx()) for atom in pattern.GetAtoms() if atom.GetAtomMapNum())
    wanted = [place for _, place in mapped] or list(range(pattern.GetNumAtoms()))
    if len(wanted) != KINDS[driven.kind]:
        raise ValueError(
            f"the SMARTS pattern {driven.atoms!r} has {len(wanted)} atoms, a {driven.kind} {KINDS[driven.kind]}"
        )
    matches = mol.GetSubstructMatches(pattern)
    if not matches:
        raise ValueError(f"has no {driven.kind} that matches {driven.atoms!r}")
    return tuple(matches[0][i] for i in wanted), len(matches)
