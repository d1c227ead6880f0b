"""Growing a batch of molecules, one atom of each at a time.

Each step asks the network once for all molecules that still grow. A focus and an element, or to stop, are drawn from
p(focus, element) and p(stop), then a position from p(position | focus, element). With `masked` what no neutral molecule
can have is drawn again: a focus without an open valence, a stop that leaves valences open, a position bonded to an
atom without an open valence or too close to another. Drawing again until it is allowed is drawing from the
probabilities of what is allowed. Where the atoms of the result are given, no others are drawn, in either case.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from ase.data import chemical_symbols
from torch import Tensor

from atomsml.generative.molecules.molecules import Molecules, Request, padded
from atomsml.generative.molecules.symphony.distribution import PositionDistribution
from atomsml.generative.molecules.symphony.network import Fragments, SymphonyNetwork
from atomsml.generative.molecules.symphony.valence_state import ValenceState, closable, neutral_valences

PLACES = 12  # positions that are tried for a focus and an element, before another is drawn
CHOICES = 8  # of a focus and an element that are tried for an atom, before the molecule is given up


@dataclass
class Growing:
    """A molecule that grows, in the frame of what was given."""

    rng: np.random.Generator
    numbers: list[int]
    positions: np.ndarray  # (atoms, 3), Angstrom, float64
    heavy_first: bool
    left: Counter[int] | None  # atoms still to come, by atomic number; None: the network decides
    masked: bool
    valences: ValenceState = field(default_factory=ValenceState)
    finished: bool = False

    def __post_init__(self) -> None:
        if self.masked:
            for number, position in zip(self.numbers, self.positions, strict=True):
                self.valences.add(number, position)

    def allowed(self, elements: Sequence[int]) -> np.ndarray:
        """(atoms * elements + 1,) bool: focus and element, and last to stop, as far as it is cheap to say."""
        table = np.ones((len(self.numbers), len(elements)), bool)
        if self.left is not None:
            heavy_left = any(number > 1 for number, count in self.left.items() if count)
            table &= [self.left[z] > 0 and not (z == 1 and heavy_left and self.heavy_first) for z in elements]
        if self.masked:
            table &= (np.array(self.valences.open) > 0)[:, None]
            if self.left is not None:
                table &= [self._keeps_open(z) for z in elements]
        return np.append(table.ravel(), self.left is None)

    def may_stop(self) -> bool:
        return not self.masked or self.valences.closes()

    def may_add(self, focus: int, number: int) -> bool:
        """Whether the valences can be closed by the hydrogens that are left, if one of them goes here."""
        if not self.masked or self.left is None or number != 1 or any(self.left[z] for z in self.left if z > 1):
            return True
        state = self.valences
        bonds = [*state.bonds, (focus, len(state.numbers))]
        return closable([*state.numbers, 1], bonds, self.left[1] - 1)

    def admits(self, focus: int, number: int, position: np.ndarray) -> bool:
        if not self.masked:
            return True
        spare = None if self.left is None else max(self._surplus() // 2, 0)
        return self.valences.admits(focus, number, position, spare)

    def add(self, number: int, position: np.ndarray) -> None:
        self.numbers.append(number)
        self.positions = np.concatenate([self.positions, position[None]])
        if self.masked:
            self.valences.add(number, position)
        if self.left is not None:
            self.left[number] -= 1
            self.finished = not any(self.left.values())

    def _surplus(self) -> int:
        """Valences that are left over once all atoms have come: each multiple bond and each ring takes two."""
        assert self.left is not None
        coming = sum(count * (max(neutral_valences(z)) - 2) for z, count in self.left.items() if count)
        return sum(self.valences.open) + coming

    def _keeps_open(self, number: int) -> bool:
        """Whether there is a place left after this atom, if others are to come."""
        assert self.left is not None
        return sum(self.left.values()) == 1 or sum(self.valences.open) + max(neutral_valences(number)) - 2 > 0


def grown(
    network: SymphonyNetwork, molecules: Sequence[Growing], elements: Sequence[int], steps: int
) -> Iterator[Molecules]:
    """All molecules after every step, until all have stopped or have `steps` atoms more."""
    for _ in range(steps):
        rows = [molecule for molecule in molecules if not molecule.finished]
        if not rows:
            break
        _step(network, rows, elements)
        yield _batch(molecules)


def describe(network: SymphonyNetwork, molecules: Sequence[Growing], elements: Sequence[int]) -> Fragments:
    """What the network is told about molecules, each about the centre of its atoms."""
    like = network.embedding
    numbers = padded([molecule.numbers for molecule in molecules])
    positions = torch.zeros(*numbers.shape, 3, dtype=torch.float64)
    for row, molecule in enumerate(molecules):
        positions[row, : len(molecule.numbers)] = torch.from_numpy(molecule.positions - molecule.positions.mean(axis=0))
    return Fragments(
        torch.searchsorted(torch.tensor(elements), numbers).clamp(max=len(elements) - 1).to(like.device),
        positions.to(like),
        (numbers > 0)[:, None].to(like.device),
        torch.tensor([molecule.heavy_first for molecule in molecules], device=like.device),
    )


def _step(network: SymphonyNetwork, molecules: Sequence[Growing], elements: Sequence[int]) -> None:
    """Add an atom to each molecule, or stop it."""
    fragments = describe(network, molecules, elements)
    features = network(fragments)
    logits = network.heads.next_atom(features).double().cpu().split(fragments.members.sum(dim=(1, 2)).tolist())
    first = np.cumsum([0, *(len(each) for each in logits)])
    probabilities = [torch.softmax(torch.cat([each.flatten(), each.new_zeros(1)]), 0).numpy() for each in logits]
    allowed = [molecule.allowed(elements) for molecule in molecules]
    pending = list(range(len(molecules)))
    for attempt in range(CHOICES + 1):
        chosen = {}
        for row in pending:
            if attempt == CHOICES:
                _give_up(molecules[row], allowed, row, elements)
            choice = _choose(molecules[row], probabilities[row], allowed[row], elements)
            if choice is None:
                molecules[row].finished = True
            else:
                chosen[row] = choice
        pending = []
        if chosen:
            rows = list(chosen)
            states = torch.tensor([first[row] + focus for row, (focus, _) in chosen.items()], device=features.device)
            species = torch.tensor([kind for _, kind in chosen.values()], device=features.device)
            placed = _place(network.heads.position(features[states], species), molecules, chosen, elements)
            for row in rows:
                focus, kind = chosen[row]
                if row in placed:
                    molecules[row].add(elements[kind], placed[row])
                else:
                    allowed[row][focus * len(elements) + kind] = False
                    pending.append(row)


def _give_up(molecule: Growing, allowed: list[np.ndarray], row: int, elements: Sequence[int]) -> None:
    """No place was found: a molecule with given atoms goes on without masks of valences, any other ends."""
    if molecule.left is None:
        allowed[row][:] = False
    else:
        molecule.masked = False
        allowed[row] = molecule.allowed(elements)


def _choose(
    molecule: Growing, probabilities: np.ndarray, allowed: np.ndarray, elements: Sequence[int]
) -> tuple[int, int] | None:
    """A focus and the index of an element; None: stop. What turns out not to be allowed is struck off."""
    while allowed.any():
        cumulative = np.cumsum(np.where(allowed, probabilities + 1e-12, 0))
        drawn = molecule.rng.random() * cumulative[-1]
        index = int(np.searchsorted(cumulative, drawn, side="right"))
        focus, kind = divmod(index, len(elements))
        if index == len(allowed) - 1:
            if molecule.may_stop():
                return None
        elif molecule.may_add(focus, elements[kind]):
            return focus, kind
        allowed[index] = False
    if molecule.left is not None and molecule.masked:
        molecule.masked = False
        allowed |= molecule.allowed(elements)
        return _choose(molecule, probabilities, allowed, elements)
    return None


def _place(
    p: PositionDistribution,
    molecules: Sequence[Growing],
    chosen: dict[int, tuple[int, int]],
    elements: Sequence[int],
) -> dict[int, np.ndarray]:
    """Positions by row, of those for which one was found that is admitted."""
    rows = list(chosen)

    def uniform(which: Tensor, count: int) -> Tensor:
        return torch.from_numpy(np.stack([molecules[rows[i]].rng.random(count) for i in which.tolist()]))

    placed: dict[int, np.ndarray] = {}
    left = torch.arange(len(rows))
    for _ in range(PLACES):
        drawn = p.sample(uniform, left.to(p.distances.centres.device)).double().cpu().numpy()
        for i, x in zip(left.tolist(), drawn, strict=True):
            focus, kind = chosen[rows[i]]
            position = molecules[rows[i]].positions[focus] + x
            if molecules[rows[i]].admits(focus, elements[kind], position):
                placed[rows[i]] = position
        left = torch.tensor([i for i in left.tolist() if rows[i] not in placed], dtype=torch.int64)
        if len(left) == 0:
            break
    return placed


def in_order(molecules: Sequence[Growing], requests: Sequence[Request]) -> Molecules:
    """The molecules with their atoms as the requests have them; as they came, where those do not say."""
    for molecule, request in zip(molecules, requests, strict=True):
        if request.numbers is not None:
            places = {z: [i for i, number in enumerate(molecule.numbers) if number == z] for z in set(request.numbers)}
            order = [places[z].pop(0) for z in request.numbers]
            molecule.numbers, molecule.positions = list(request.numbers), molecule.positions[order]
    return _batch(molecules)


def check_fragment(molecule: Growing) -> None:
    """Refuse a fragment that no neutral molecule has, or to which nothing can be added.

    Raises:
        ValueError: an atom with more neighbours than valences, or no valence that is open.
    """
    state = molecule.valences
    for i, (number, left) in enumerate(zip(state.numbers, state.open, strict=True)):
        if left < 0:
            most = max(neutral_valences(number))
            raise ValueError(
                f"atom {i} (counted from 0) of the fragment, {chemical_symbols[number]}, has {most - left} neighbours, "
                f"more than {most}; correct the fragment, or take --sampler plain"
            )
    if max(state.open) == 0:
        raise ValueError("the fragment has no open valence, nothing can be added; leave out an atom of it")


def _batch(molecules: Sequence[Growing]) -> Molecules:
    numbers = padded([molecule.numbers for molecule in molecules])
    positions = torch.zeros(*numbers.shape, 3, dtype=torch.float64)
    for row, molecule in enumerate(molecules):
        positions[row, : len(molecule.numbers)] = torch.from_numpy(molecule.positions)
    return Molecules(numbers, positions)
