"""Relaxing the structures of a command, one after the other or many at once, and keeping each when it is done."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ase

    from atomsml.cli.job import Job
    from atomsml.cli.relax.journal import Journal
    from atomsml.cli.relax.outputs import Output
    from atomsml.interfaces.ase import AtomsMLCalculator
    from atomsml.io import OutputSet, StructureRecord
    from atomsml.simulate.relax import Batch, RelaxSettings, RelaxState

PARTS, LARGEST_PART = 4, 256  # into how many parts each device has its share; structures of a part at most
PAUSE = 0.2  # s between two words about what is on its way


@dataclass(frozen=True)
class Relaxed:
    """A structure that is done."""

    atoms: ase.Atoms  # with its results
    energy_before: float  # eV
    last: RelaxState


@dataclass(frozen=True)
class Standing:
    """What is told of those that are on their way."""

    words: str
    atom_steps: int  # that were made since it was told the last time


def relax_all(
    job: Job,
    settings: RelaxSettings,
    devices: Sequence[str],
    files: OutputSet,
    output: Output,
    journal: Journal,
    trajectory: Path | None,
) -> KeyboardInterrupt | ChildProcessError | None:
    """Relax every structure that the journal does not have, and note it there and in the output when it is done.

    Returns as `compute_waiting`.
    """
    from atomsml.cli.output import trajectory_writer
    from atomsml.cli.relax.records import record_of
    from atomsml.cli.simulate.waiting import compute_waiting

    def keep(number: int, structure: StructureRecord, done: Relaxed) -> None:
        record = record_of(structure, done.atoms, done.energy_before, done.last, output.place(number))
        journal.add(number, record, done.atoms)
        output.keep(files, journal.images, number)

    with trajectory_writer(files, trajectory) as write_frame:
        frames = None if trajectory is None else write_frame

        def compute(structures: dict[int, StructureRecord]) -> Iterator[tuple[int, Relaxed]]:
            return _done(job, structures, settings, devices, frames)

        return compute_waiting(job, journal.records, compute, keep)


def check(settings: RelaxSettings, atoms: ase.Atoms) -> None:
    """Refuse atoms that cannot be relaxed in this way.

    Raises:
        ValueError: as RelaxSettings.check, or a constraint of the input that cannot be kept.
    """
    from atomsml.simulate.constraints import projectors

    settings.check(atoms)
    projectors(atoms)


def _done(
    job: Job,
    structures: dict[int, StructureRecord],
    settings: RelaxSettings,
    devices: Sequence[str],
    write_frame: Callable[[ase.Atoms], None] | None,
) -> Iterator[tuple[int, Relaxed]]:
    """Structures by the numbers of their inputs, as they are done; those without an answer are refused."""
    from atomsml.cli.simulate.devices import stream
    from atomsml.cli.simulate.progress import progress

    numbers, given = list(structures), [each.atoms for each in structures.values()]
    task = partial(relax_some, settings, max(Counter(devices).values()), write_frame)
    part = max(1, min(LARGEST_PART, len(given) // (PARTS * len(devices))))
    done, atom_steps, start = 0, 0, time.monotonic()
    with progress("relax", len(given)) as report, closing(stream(job, devices, task, given, part)) as found:
        for i, told in found:
            number = numbers[i]
            if isinstance(told, Standing):
                atom_steps += told.atom_steps
                rate = f"{atom_steps / (time.monotonic() - start):.0f} atoms/s"
                report(done, told.words if len(given) == 1 else f"{told.words}  {rate}")
                continue
            done += 1
            reason = None if math.isfinite(told.energy_before) else job.why_no_answer(structures[number])
            if reason is not None:
                job.refuse(structures[number], reason)
            else:
                yield number, told


def relax_some(
    settings: RelaxSettings,
    sharing: int,
    write_frame: Callable[[ase.Atoms], None] | None,
    calculator: AtomsMLCalculator,
    structures: Sequence[ase.Atoms],
) -> Iterator[tuple[int, Relaxed | Standing]]:
    """Many at once, one after the other where their steps are to be written; results by their places in the list.

    Args:
        sharing: processes that share the memory of the device.
    """
    import torch

    from atomsml.cli.output import with_results
    from atomsml.cli.simulate.results import complete
    from atomsml.simulate.batching.in_flight import Room
    from atomsml.simulate.batching.memory import measure_room
    from atomsml.simulate.model import Model
    from atomsml.simulate.relax import iterate_relax_many

    model, device = Model.of(calculator), calculator.device
    if write_frame is None:
        room = measure_room(model, structures, device, stress=settings.cell)
        room, where = replace(room, memory=room.memory / sharing), device
    else:
        room, where = Room(atoms=0), torch.device("cpu")  # where each step is looked at
    due, atom_steps = 0.0, 0
    for batch in iterate_relax_many(structures, model, settings, room, where):
        if write_frame is not None:
            (only,) = batch.states
            frame = batch.systems.write_to([structures[only]])[0]
            complete(frame, calculator)
            write_frame(frame)
        atom_steps += batch.systems.num_atoms
        if time.monotonic() >= due:
            yield next(iter(batch.states)), Standing(_describe_batch(batch), atom_steps)
            due, atom_steps = time.monotonic() + PAUSE, 0
        for each in batch.done:
            complete(each.atoms, calculator)
            relaxed = with_results(each.atoms, each.atoms.calc.results)
            yield each.index, Relaxed(relaxed, each.start_energy, each.state)


def _describe_batch(batch: Batch) -> str:
    """The worst structure is told where there is only one."""
    if len(batch.states) == 1:
        (state,) = batch.states.values()
        return f"step {state.step}  {state.energy:.4f} eV, max force {state.fmax:.4f} eV/A"
    return f"{len(batch.states)} on their way"
