"""Drawing many molecules: what they obey is checked, and a scaffold is put back where it was."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from functools import partial

import ase
import numpy as np
import torch

from atomsml.generative.core.rotations import superposition
from atomsml.generative.core.sampling import Progress, draw
from atomsml.generative.molecules.model import MoleculeModel
from atomsml.generative.molecules.molecules import Request, Scaffold

STRETCH = 1e-2  # Angstrom: how far a scaffold may come back from where it was; rounding is far below


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
    sample = partial(model.sample, steps=steps, sampler=sampler, scaffold=scaffold, guidance=guidance)
    for progress in draw(model, requests, batches, sample):
        drawn = {place: _obeying(atoms, requests[place], scaffold) for place, atoms in progress.drawn.items()}
        yield dataclasses.replace(progress, drawn=drawn)


def _obeying(atoms: ase.Atoms, request: Request, scaffold: Scaffold | None) -> ase.Atoms:
    if request.numbers not in (None, tuple(atoms.numbers.tolist())):
        raise RuntimeError(f"the molecule of seed {request.seed} should have the atoms {request.numbers}, has {atoms}")
    return atoms if scaffold is None else overlaid(atoms, scaffold)


def overlaid(atoms: ase.Atoms, scaffold: Scaffold) -> ase.Atoms:
    """A rigid motion of `atoms` that puts its first atoms on the scaffold, to the last bit.

    Raises:
        RuntimeError: they do not have the shape of the scaffold, so that no motion does it.
    """
    target = scaffold.positions.detach().cpu().double()
    held, every = len(target), torch.from_numpy(atoms.positions)
    if torch.equal(every[:held], target):
        return atoms
    rotation, shift = superposition(every[None, :held], target[None], torch.ones(1, held, dtype=torch.bool))
    moved = atoms.copy()
    moved.positions = (every @ rotation[0].T + shift[0]).numpy()
    distance = np.linalg.norm(moved.positions[:held] - target.numpy(), axis=1).max()
    if not distance < STRETCH:
        raise RuntimeError(f"the sampler moved an atom of the scaffold by {distance:.3g} A")
    moved.positions[:held] = target
    return moved
