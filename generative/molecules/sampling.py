"""Drawing many molecules: a seed for each, batches of like sizes, and a state after every step.

Molecule `i` of a run with seed `s` depends on (s, i) alone, not on how many there are nor on their batches: the first
ten of a thousand are the ten that a shorter run draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import ase
import numpy as np
import torch
from torch import nn

from atomsml.generative.core.rotations import superposition
from atomsml.generative.molecules.model import MoleculeModel
from atomsml.generative.molecules.molecules import Request, Scaffold

PADDING = 0.1  # of the pairs that a batch may have: a batch of its own costs about as much as so many more
PAIRS = {"cpu": 30_000, "cuda": 2_000_000, "mps": 500_000}  # of atoms in a batch, by the type of device
STRETCH = 1e-2  # Angstrom: how far a scaffold may come back from where it was; rounding is far below


@dataclass(frozen=True)
class Progress:
    """Where the drawing of molecules stands after a step."""

    finished: int  # molecules
    evaluations: dict[str, int]  # of each network in this batch so far: as many for each of its molecules
    drawn: dict[int, ase.Atoms]  # by the place of their request: those that this step finished


def sample_seed(seed: int, index: int) -> int:
    """The seed of molecule `index` of a run: 63 bits that numpy's SeedSequence makes of (seed, index)."""
    return int(np.random.SeedSequence((seed, index)).generate_state(1, np.uint64)[0] >> np.uint64(1))


def batches_of_like_size(
    sizes: Sequence[int], max_pairs: int | None = None, max_molecules: int | None = None
) -> list[list[int]]:
    """Places of `sizes` in batches, small molecules first.

    A batch has at most `max_pairs` pairs of (padded) atoms, of which PADDING are only there because molecules have
    different sizes, and at most `max_molecules`; one molecule it has in any case.
    """
    batches: list[list[int]] = []
    own_pairs = 0  # of the last batch, without padding
    for place in sorted(range(len(sizes)), key=lambda place: sizes[place]):
        if batches:
            pairs, own_pairs = (len(batches[-1]) + 1) * sizes[place] ** 2, own_pairs + sizes[place] ** 2
            fits = max_molecules is None or len(batches[-1]) < max_molecules
            if max_pairs is not None:
                fits &= pairs <= max_pairs and pairs - own_pairs <= PADDING * max_pairs
            if fits:
                batches[-1].append(place)
                continue
        batches.append([place])
        own_pairs = sizes[place] ** 2
    return batches


def sample_molecules(
    model: MoleculeModel,
    requests: Sequence[Request],
    batches: Sequence[Sequence[int]],
    steps: int,
    sampler: str,
    scaffold: Scaffold | None = None,
    guidance: float = 1.0,
) -> Iterator[Progress]:
    """Draw the requests batch by batch; yields after every step, with the molecules of a batch after its last.

    With a scaffold, molecules are turned and shifted so that the atoms of the scaffold lie where they were.

    Raises:
        ValueError: what `model.sample` refuses.
        RuntimeError: the model did not obey a request.
    """
    finished = 0
    for batch in batches:
        state, evaluations = None, _Calls(model)
        for following in model.sample([requests[place] for place in batch], steps, sampler, scaffold, guidance):
            if state is not None:
                yield Progress(finished, dict(evaluations.counts), {})
            state = following
        evaluations.stop()
        if state is None:
            raise ValueError(f"the sampler {sampler!r} made no step; ask for more steps than {steps}")
        images = state.to_ase()
        for place, atoms in zip(batch, images, strict=True):
            if requests[place].numbers not in (None, tuple(atoms.numbers.tolist())):
                raise RuntimeError(f"molecule {place} should have the atoms {requests[place].numbers}, has {atoms}")
        if scaffold is not None:
            images = [overlaid(atoms, scaffold) for atoms in images]
        finished += len(batch)
        yield Progress(finished, evaluations.counts, dict(zip(batch, images, strict=True)))


class _Calls:
    """Counts the calls of the networks of a model until `stop`."""

    def __init__(self, model: nn.Module) -> None:
        self.counts = {name: 0 for name, _ in model.named_children()}
        self._hooks = [network.register_forward_hook(self._hook(name)) for name, network in model.named_children()]

    def _hook(self, name: str) -> Callable[..., None]:
        def called(*of: object) -> None:
            self.counts[name] += 1

        return called

    def stop(self) -> None:
        for hook in self._hooks:
            hook.remove()


def overlaid(atoms: ase.Atoms, scaffold: Scaffold) -> ase.Atoms:
    """A rigid motion of `atoms` that puts its first atoms on the scaffold, to the last bit.

    Raises:
        RuntimeError: they do not have the shape of the scaffold, so that no motion does it.
    """
    target = scaffold.positions.detach().cpu().double()
    held, every = len(target), torch.from_numpy(atoms.positions)
    rotation, shift = superposition(every[None, :held], target[None], torch.ones(1, held, dtype=torch.bool))
    moved = atoms.copy()
    moved.positions = (every @ rotation[0].T + shift[0]).numpy()
    distance = np.linalg.norm(moved.positions[:held] - target.numpy(), axis=1).max()
    if not distance < STRETCH:
        raise RuntimeError(f"the sampler moved an atom of the scaffold by {distance:.3g} A")
    moved.positions[:held] = target
    return moved


def default_max_pairs(device: torch.device) -> int:
    """Pairs of atoms in a batch that keep a device busy; more would only need more memory."""
    return PAIRS.get(device.type, PAIRS["cpu"])
