"""The kinds of atoms of which a graph is composed before any bond is drawn.

A kind is an element with a formal charge, the hydrogens that it carries, the valence that is left for bonds to other
heavy atoms, and how many of these are neighbours: the carbon of CH2 has the valence two, with two neighbours or, as in
ethene, one; the nitrogen of a nitro group (charge +1) four with three, the sulphur of a sulphone six with four. Which
kinds make up a molecule is drawn from those of the training molecules that obey a request. So it is settled in the
beginning how many rings there will be, and which atoms have multiple bonds.

For what was never seen, kinds are drawn by their frequencies p(kind | element) in the training set, independently of
each other, but on the condition that a molecule can come of them: as many hydrogens as asked for, the total charge
zero, the number of neighbours even and large enough to connect all atoms. The sums of a chain of draws are followed
forward, so that this is exact (`_chain`); what else a graph needs (`valences.make_a_molecule`) is tried, with new draws
where it fails.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from atomsml.generative.graphs.valences import make_a_molecule

ELEMENT, CHARGE, HYDROGENS, VALENCE, NEIGHBORS = range(5)  # columns of a table of kinds
MOST_CHARGE = 4  # how far the sum of the charges may be from zero on the way
TRIES = 100


@dataclass(frozen=True)
class Held:
    """Atoms of a scaffold, the first of a molecule."""

    atoms: np.ndarray  # (held, 5) kinds, with the bonds within the scaffold; a hydrogen may give its place to a bond

    @staticmethod
    def none() -> Held:
        return Held(np.zeros((0, 5), np.int64))


class Kinds:
    """Draws kinds.

    Args:
        kinds: (kinds, 5) element, charge, hydrogens, valence, neighbours.
        sets: (sets, kinds) how many atoms of each kind a training molecule has.
        counts: (sets,) how many training molecules have these.
    """

    def __init__(self, kinds: np.ndarray, sets: np.ndarray, counts: np.ndarray) -> None:
        self.kinds, self.sets, self.counts = kinds, sets, counts.astype(np.float64)
        self.elements = tuple(np.unique(kinds[:, ELEMENT]).tolist())
        of_element = kinds[:, ELEMENT, None] == np.array(self.elements, np.int64)
        self._atoms = sets @ of_element.astype(np.int64)  # (sets, elements)
        self._hydrogens = sets @ kinds[:, HYDROGENS]
        self._frequencies = self.counts @ sets  # (kinds,)

    def draw(
        self,
        rng: np.random.Generator,
        numbers: Sequence[int] | None = None,
        hydrogens: int | None = None,
        num_atoms: int | None = None,
        held: Held | None = None,
    ) -> np.ndarray:
        """(atoms, 5) the kind of each atom, those that are held first.

        Args:
            numbers: atomic numbers of all atoms.
            hydrogens: how many there are in all.
            num_atoms: how many atoms there are with hydrogens; not beside `numbers`.
            held: a scaffold.

        Raises:
            ValueError: no way to do it.
        """
        held = held or Held.none()
        drawn = self._seen(numbers, hydrogens, num_atoms, held, rng)
        if drawn is not None:
            return drawn
        if numbers is None:
            wanted = [f"{num_atoms} atoms"] if num_atoms is not None else []
            wanted += [f"{hydrogens} hydrogens"] if hydrogens is not None else []
            wanted += ["such a scaffold"] if len(held.atoms) else []
            raise ValueError(
                f"the model has seen no molecule with {' and '.join(wanted) or 'atoms'}; give the formula to insist"
            )
        return self._unseen(numbers, hydrogens, held, rng)

    def _seen(
        self,
        numbers: Sequence[int] | None,
        hydrogens: int | None,
        num_atoms: int | None,
        held: Held,
        rng: np.random.Generator,
    ) -> np.ndarray | None:
        """As in a training molecule that obeys, or None."""
        obeys = np.ones(len(self.sets), bool)
        if numbers is not None:
            obeys &= (self._atoms == self._count(numbers)).all(axis=1) & (len(numbers) == self._atoms.sum(axis=1))
        if hydrogens is not None:
            obeys &= self._hydrogens == hydrogens
        if num_atoms is not None:
            obeys &= self._hydrogens + self._atoms.sum(axis=1) == num_atoms
        for atom in range(len(held.atoms)):
            obeys &= self.sets[:, self._fitting(held, atom)].any(axis=1)
        rows, weights = np.flatnonzero(obeys), self.counts[obeys]
        while len(rows):
            chosen = rng.choice(len(rows), p=weights / weights.sum())
            dealt = self._deal(np.repeat(np.arange(len(self.kinds)), self.sets[rows[chosen]]), numbers, held, rng)
            if dealt is not None:
                return dealt
            rows, weights = np.delete(rows, chosen), np.delete(weights, chosen)
        return None

    def _count(self, numbers: Sequence[int] | np.ndarray) -> np.ndarray:
        """(elements,) how many atoms there are of each."""
        return (np.asarray(numbers, np.int64)[:, None] == np.array(self.elements)).sum(axis=0)

    def _deal(
        self, dealt: np.ndarray, numbers: Sequence[int] | None, held: Held, rng: np.random.Generator
    ) -> np.ndarray | None:
        """The kinds `dealt` in the order of the atoms; None where the scaffold does not allow it.

        The atoms of a scaffold that may be of fewest kinds choose first.
        """
        left = rng.permutation(dealt).tolist()
        chosen: dict[int, int] = {}
        fitting = [self._fitting(held, atom) for atom in range(len(held.atoms))]
        for atom in sorted(range(len(fitting)), key=lambda atom: (sum(k in fitting[atom] for k in left), rng.random())):
            kind = next((k for k in left if k in fitting[atom]), None)
            if kind is None:
                return None
            left.remove(kind)
            chosen[atom] = kind
        kinds = [chosen[atom] for atom in range(len(fitting))]
        if numbers is None:
            return self._possible([*kinds, *sorted(left)], held)
        for number in numbers[len(kinds) :]:
            kind = next(k for k in left if self.kinds[k, ELEMENT] == number)
            left.remove(kind)
            kinds.append(kind)
        return self._possible(kinds, held)

    def _fitting(self, held: Held, atom: int) -> list[int]:
        """The kinds that an atom of a scaffold may be of: some of its hydrogens gave their places to bonds."""
        element, charge, hydrogens, valence, neighbors = held.atoms[atom]
        kinds = self.kinds
        same = (kinds[:, ELEMENT] == element) & (kinds[:, CHARGE] == charge) & (kinds[:, HYDROGENS] <= hydrogens)
        places = kinds[:, VALENCE] + kinds[:, HYDROGENS] == valence + hydrogens
        more, new = kinds[:, VALENCE] - valence, kinds[:, NEIGHBORS] - neighbors
        found: list[int] = np.flatnonzero(same & places & (new <= more) & ((new > 0) == (more > 0))).tolist()
        return found

    def _possible(self, kinds: Sequence[int], held: Held) -> np.ndarray | None:
        """The kinds of all atoms, if the places that a scaffold leaves open and the others suffice to connect all."""
        found = self.kinds[list(kinds)].reshape(-1, 5)
        if len(held.atoms) == 0:
            return found if make_a_molecule(found[:, VALENCE], found[:, NEIGHBORS]) else None
        spare = found[:, NEIGHBORS].sum() - held.atoms[:, NEIGHBORS].sum() - 2 * (len(found) - len(held.atoms))
        return found if spare >= 0 and spare % 2 == 0 else None

    def _unseen(
        self, numbers: Sequence[int], hydrogens: int | None, held: Held, rng: np.random.Generator
    ) -> np.ndarray:
        """By the frequencies of kinds, under the conditions of the module docstring."""
        choices = [
            self._fitting(held, atom)
            if atom < len(held.atoms)
            else np.flatnonzero(self.kinds[:, ELEMENT] == number).tolist()
            for atom, number in enumerate(numbers)
        ]
        for _ in range(TRIES):
            drawn = self._chain(choices, hydrogens, rng)
            if drawn is None:
                break
            found = self._possible(drawn, held)
            if found is not None:
                return found
        raise ValueError(
            f"the model cannot give {hydrogens or 'any'} hydrogens to {len(numbers)} heavy atoms "
            "in a way it has seen; change the formula or the scaffold"
        )

    def _chain(
        self, choices: Sequence[Sequence[int]], hydrogens: int | None, rng: np.random.Generator
    ) -> list[int] | None:
        """Independent draws for each atom, on the condition that the sums are right; None where none are.

        `sums[i]` (hydrogens, charges, neighbours) are the weights of the sums of the atoms from i on.
        """
        parts = self.kinds[:, (HYDROGENS, CHARGE, NEIGHBORS)]
        most = parts[:, 0].max(initial=0) * len(choices) if hydrogens is None else hydrogens
        neighbors = int(parts[:, 2].max(initial=0)) * len(choices)
        sums = [np.zeros((most + 1, 2 * MOST_CHARGE + 1, neighbors + 1))]
        sums[0][0, MOST_CHARGE, 0] = 1
        for kinds in reversed(choices):
            total = np.zeros_like(sums[-1])
            for kind in kinds:
                total += self._frequencies[kind] * _shifted(sums[-1], *parts[kind])
            sums.append(total / max(total.max(), 1e-300))
        sums.reverse()
        ends = sums[0][:, MOST_CHARGE].copy()
        ends[:, 1::2] = 0
        ends[:, : 2 * (len(choices) - 1)] = 0
        if hydrogens is not None:
            ends[:hydrogens] = 0
        if not ends.any():
            return None
        end = np.unravel_index(rng.choice(ends.size, p=ends.flatten() / ends.sum()), ends.shape)
        left, drawn = np.array([end[0], 0, end[1]]), []
        for kinds, rest in zip(choices, sums[1:], strict=True):
            after = left - parts[kinds]
            inside = (after[:, (0, 2)] >= 0).all(axis=1) & (abs(after[:, 1]) <= MOST_CHARGE)
            weights = np.array(
                [
                    self._frequencies[k] * rest[h, MOST_CHARGE + q, n] if fine else 0.0
                    for k, (h, q, n), fine in zip(kinds, after.tolist(), inside, strict=True)
                ]
            )
            chosen = rng.choice(len(kinds), p=weights / weights.sum())
            drawn.append(kinds[chosen])
            left = after[chosen]
        return drawn


def _shifted(sums: np.ndarray, hydrogens: int, charge: int, neighbors: int) -> np.ndarray:
    """Weights of sums to which an atom is added; what leaves the table is lost."""
    moved = np.zeros_like(sums)
    h, q, n = sums.shape
    to = slice(max(charge, 0), q + min(charge, 0))
    source = slice(max(-charge, 0), q - max(charge, 0))
    moved[hydrogens:, to, neighbors:] = sums[: max(h - hydrogens, 0), source, : n - neighbors]
    return moved


def count_kinds(rows: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`kinds`, `sets` and `counts` of molecules given by the kinds (atoms, 5) of their atoms."""
    kinds = np.unique(np.concatenate([np.zeros((0, 5), np.int64), *rows]), axis=0)
    index = {tuple(kind): i for i, kind in enumerate(kinds.tolist())}
    seen = Counter(tuple(sorted(index[tuple(kind)] for kind in row.tolist())) for row in rows)
    ordered = sorted(seen)
    sets = np.array([np.bincount(s, minlength=len(kinds)) for s in ordered], np.int32).reshape(-1, len(kinds))
    return kinds, sets, np.array([seen[s] for s in ordered], np.int32)
