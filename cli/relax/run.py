"""Relaxing the structures of a command, one after the other or many at once, and keeping each when it is done."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ase

    from atomsml.cli.job import Job
    from atomsml.cli.relax.journal import Journal
    from atomsml.cli.relax.outputs import Output
    from atomsml.io import OutputSet, StructureRecord
    from atomsml.simulate.relax import Batch, RelaxSettings, RelaxState


@dataclass(frozen=True)
class Relaxed:
    """A structure that is done."""

    number: int  # of its input
    atoms: ase.Atoms  # with its results
    energy_before: float  # eV
    last: RelaxState


def relax_all(
    job: Job, settings: RelaxSettings, files: OutputSet, output: Output, journal: Journal, trajectory: Path | None
) -> KeyboardInterrupt | None:
    """Relax every structure that the journal does not have, and note it there and in the output when it is done.

    Returns the request to stop, if there was one.
    """
    from atomsml.cli.output import trajectory_writer
    from atomsml.cli.relax.records import record_of
    from atomsml.io import StructureRecord
    from atomsml.signals import held_stops

    waiting = {
        number: structure
        for number, structure in enumerate(job.inputs)
        if isinstance(structure, StructureRecord) and number not in journal.records
    }
    stop: KeyboardInterrupt | None = None
    with trajectory_writer(files, trajectory) as write_frame:
        try:
            for done in _in_batches(job, dict(waiting), settings, None if trajectory is None else write_frame):
                structure = waiting.pop(done.number)
                with held_stops():
                    place = output.place(done.number)
                    record = record_of(structure, done.atoms, done.energy_before, done.last, place)
                    journal.add(done.number, record, done.atoms)
                    output.keep(files, journal.images, done.number)
        except KeyboardInterrupt as error:
            stop = error
    for number, structure in waiting.items():
        if job.inputs[number] is structure:  # and was not refused
            job.refuse(structure, "not done: interrupted")
    return stop


def check(settings: RelaxSettings, atoms: ase.Atoms) -> None:
    """Refuse atoms that cannot be relaxed in this way.

    Raises:
        ValueError: as RelaxSettings.check, or a constraint of the input that cannot be kept.
    """
    from atomsml.simulate.constraints import projectors

    settings.check(atoms)
    projectors(atoms)


def _in_batches(
    job: Job,
    structures: dict[int, StructureRecord],
    settings: RelaxSettings,
    write_frame: Callable[[ase.Atoms], None] | None,
) -> Iterator[Relaxed]:
    """Many at once; one after the other where their steps are to be written."""
    from atomsml.cli.output import with_results
    from atomsml.cli.simulate.progress import progress
    from atomsml.cli.simulate.results import complete
    from atomsml.simulate.batching.in_flight import Room
    from atomsml.simulate.batching.memory import measure_room
    from atomsml.simulate.model import Model
    from atomsml.simulate.relax import iterate_relax_many

    numbers, given = list(structures), [each.atoms for each in structures.values()]
    model, device = Model.of(job.calculator), job.calculator.device
    room = Room(atoms=0) if write_frame is not None else measure_room(model, given, device, stress=settings.cell)
    done, atoms, start = 0, 0, time.monotonic()
    with progress("relax", len(given)) as report:
        where = device if write_frame is None else "cpu"  # where each step is looked at
        for batch in iterate_relax_many(given, model, settings, room, where):
            if write_frame is not None:
                (only,) = batch.states
                frame = batch.systems.write_to([given[only]])[0]
                complete(frame, job.calculator)
                write_frame(frame)
            done, atoms = done + len(batch.done), atoms + batch.systems.num_atoms
            report(done, _describe_batch(batch, atoms / (time.monotonic() - start)))
            for each in batch.done:
                number = numbers[each.index]
                reason = job.why_no_answer(structures[number]) if not math.isfinite(each.start_energy) else None
                if reason is not None:
                    job.refuse(structures[number], reason)
                else:
                    complete(each.atoms, job.calculator)
                    relaxed = with_results(each.atoms, each.atoms.calc.results)
                    yield Relaxed(number, relaxed, each.start_energy, each.state)


def _describe_batch(batch: Batch, rate: float) -> str:
    """The worst structure is told where there is only one."""
    if len(batch.states) == 1:
        (state,) = batch.states.values()
        return f"step {state.step}  {_describe(state)}"
    return f"{len(batch.states)} on their way  {rate:.0f} atoms/s"


def _describe(state: RelaxState) -> str:
    return f"{state.energy:.4f} eV, max force {state.fmax:.4f} eV/A"
