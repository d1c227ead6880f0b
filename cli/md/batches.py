"""Which structures run together: as many as memory has room for, and the same for as long as the run lasts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import ase

    from atomsml.cli.job import Job
    from atomsml.cli.md.settings import Settings
    from atomsml.simulate.batching.in_flight import Room
    from atomsml.simulate.model import Model

Batches = list[list[int]]  # of each the numbers of its structures


def plan_batches(job: Job, settings: Settings, devices: Sequence[str]) -> Batches:
    """Structures in order, as many in a batch as have room; at least as many batches as devices, if it can be.

    Replicas that are exchanged are one batch.
    """
    from atomsml.simulate.batching.in_flight import InFlight
    from atomsml.simulate.batching.memory import size_of

    structures = [structure.atoms for structure in job.structures]
    if settings.replicas:
        return [list(range(len(structures)))]
    model, room = _room(job, structures, settings, devices)
    batches: Batches = []
    for share in _shares([len(atoms) for atoms in structures], len(devices)):
        sizes = [size_of(structures[i], model, room) for i in share]
        flight = InFlight(len(share), sizes.__getitem__, room)
        while flight:
            entering = flight.enter()
            batches.append([share[i] for i in entering])
            flight.leave(entering)
    return batches


def _shares(atoms: Sequence[int], count: int) -> Batches:
    """So many parts of about as many atoms, in order; fewer where there are not so many structures."""
    middles = np.cumsum(atoms) - np.array(atoms) / 2
    parts = (middles / sum(atoms) * count).astype(int)
    return [np.flatnonzero(parts == part).tolist() for part in np.unique(parts)]


def check_room(job: Job, settings: Settings, devices: Sequence[str], batches: Batches) -> None:
    """Refuse to go on with batches of a run that began where there was more memory.

    Raises:
        ValueError: a batch that would take more than is free.
    """
    from atomsml.simulate.batching.in_flight import Size
    from atomsml.simulate.batching.memory import SHARE, size_of

    structures = [structure.atoms for structure in job.structures]
    together = [batch for batch in batches if len(batch) > 1]  # one alone would run in any case
    model, room = _room(job, structures, settings, devices)
    free = room.memory / SHARE
    for batch in together:
        needed = room.needed(sum((size_of(structures[i], model, room) for i in batch), Size()))
        if needed > free:
            raise ValueError(
                f"{len(batch)} structures of this run move together, which takes about {needed / 1e9:.3g} GB; "
                f"{free / 1e9:.3g} GB of memory are free. They stay together, so that it goes on bit for bit: go on "
                "where there is more memory, or begin anew with another output"
            )


def _room(job: Job, structures: Sequence[ase.Atoms], settings: Settings, devices: Sequence[str]) -> tuple[Model, Room]:
    """How much a batch may take, where processes on one device share its memory."""
    from atomsml.simulate.batching.memory import measure_room
    from atomsml.simulate.model import Model

    model, crystals = Model.of(job.calculator), all(atoms.pbc.all() for atoms in structures)
    room = measure_room(model, structures, job.calculator.device, stress=settings.ensemble == "npt" or crystals)
    return model, replace(room, memory=room.memory / max(Counter(devices).values()))
