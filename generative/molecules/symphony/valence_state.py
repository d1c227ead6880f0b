"""Which valences are open while a molecule grows, and whether they can all be closed.

Atoms are bonded that are closer than REACH times the sum of their covalent radii, as where bonds are perceived
(`atomsml.io.bonds`); a neutral atom has one of the valences of the suite `strict`. How many bonds are double or triple
is open until the end. So that every atom gets its valence there must be extra orders x_b = 0, 1, 2 of the bonds and
numbers h_i of hydrogens still to come, of sum H, with

    neighbours of i + sum_(b at i) x_b + h_i = one of the valences of i        for every atom i,

an integer program, which HiGHS solves.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from ase.data import chemical_symbols

from atomsml.generative.molecules.metrics.strict import VALENCES
from atomsml.io.bonds import REACH

OVERLAP = 0.7  # times the sum of the covalent radii: no bond is shorter


class ValenceState:
    """Atoms that have been placed, and their bonds."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.bonds: list[tuple[int, int]] = []
        self.open: list[int] = []  # of each atom: its largest valence less its neighbours
        self._positions = np.zeros((0, 3))
        self._radii = np.zeros(0)

    def add(self, number: int, position: np.ndarray) -> None:
        """Place an atom, whatever its bonds."""
        bonded = np.flatnonzero(self._ratios(number, position) < REACH).tolist()
        for i in bonded:
            self.open[i] -= 1
        self.bonds += [(i, len(self.numbers)) for i in bonded]
        self.open.append(max(neutral_valences(number)) - len(bonded))
        self.numbers.append(number)
        self._positions = np.concatenate([self._positions, position[None]])
        self._radii = np.append(self._radii, covalent_radius(number))

    def admits(self, focus: int, number: int, position: np.ndarray, spare: int | None = None) -> bool:
        """Whether an atom there is bonded to its focus, and to no atom whose valences are used up.

        Args:
            spare: how many bonds more than the one to the focus it may have; None: any number.
        """
        ratios = self._ratios(number, position)
        bonded = ratios < REACH
        others = int(bonded.sum()) - 1
        most = max(neutral_valences(number)) - 1
        room = bool((np.array(self.open)[bonded] > 0).all())
        return (
            bool(bonded[focus])
            and room
            and others <= (most if spare is None else min(most, spare))
            and bool(ratios.min() > OVERLAP)
        )

    def closes(self, hydrogens: int = 0) -> bool:
        """Whether all valences can be satisfied with so many hydrogens more."""
        return closable(self.numbers, self.bonds, hydrogens)

    def _ratios(self, number: int, position: np.ndarray) -> np.ndarray:
        """Distances over sums of covalent radii."""
        return np.linalg.norm(self._positions - position, axis=1) / (self._radii + covalent_radius(number))


def closable(numbers: Sequence[int], bonds: Sequence[tuple[int, int]], hydrogens: int) -> bool:
    """Whether the integer program of the module docstring has a solution."""
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import coo_array

    count, degree = len(numbers), np.bincount(np.array(bonds, np.int64).ravel(), minlength=len(numbers))
    valences = [neutral_valences(number) for number in numbers]
    if all(len(each) == 1 for each in valences):
        left = np.array([each[0] for each in valences]) - degree
        surplus = int(left.sum()) - hydrogens
        if surplus <= 0 or surplus % 2 or (left < 0).any():
            return surplus == 0 and bool((left >= 0).all())
    states = [(i, valence) for i, each in enumerate(valences) for valence in each]
    first_state, first_hydrogens = len(bonds), len(bonds) + len(states)
    variables = first_hydrogens + count
    # rows 0 ... count - 1: the valence of each atom; then one state of each atom; then the number of hydrogens
    entries = [(i, b, 1.0) for b, bond in enumerate(bonds) for i in bond]
    entries += [(i, first_hydrogens + i, 1.0) for i in range(count)]
    entries += [(2 * count, first_hydrogens + i, 1.0) for i in range(count)]
    for s, (i, valence) in enumerate(states):
        entries += [(i, first_state + s, -float(valence)), (count + i, first_state + s, 1.0)]
    rows, columns, values = zip(*entries, strict=True)
    matrix = coo_array((values, (rows, columns)), shape=(2 * count + 1, variables)).tocsr()
    wanted = np.concatenate([-degree, np.ones(count), [hydrogens]])
    upper = np.concatenate([np.full(len(bonds), 2), np.ones(len(states)), np.full(count, hydrogens)])
    found = milp(
        np.zeros(variables), integrality=np.ones(variables), bounds=Bounds(0, upper),
        constraints=LinearConstraint(matrix, wanted, wanted),
    )  # fmt: skip
    return bool(found.status == 0)


@functools.cache
def neutral_valences(number: int) -> tuple[int, ...]:
    """The sums of bond orders that a neutral atom of an element may have.

    Raises:
        ValueError: none are known.
    """
    symbol = chemical_symbols[number]
    found = sorted(valence for aromatic, valence in VALENCES.get(symbol, {}).get(0, ()) if aromatic == 0)
    if not found:
        raise ValueError(f"no valences are known of {symbol}; take --sampler plain, which does not ask for them")
    return tuple(found)


@functools.cache
def covalent_radius(number: int) -> float:
    """RDKit's, Angstrom."""
    from rdkit.Chem import GetPeriodicTable

    return float(GetPeriodicTable().GetRcovalent(number))
