"""Relaxing the structures of a command, one after the other or many at once, and keeping each when it is done."""

from __future__ import annotations

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
    from atomsml.simulate.relax import RelaxSettings, RelaxState


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
            for done in _one_by_one(job, waiting, settings, write_frame):
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


def _one_by_one(
    job: Job,
    structures: dict[int, StructureRecord],
    settings: RelaxSettings,
    write_frame: Callable[[ase.Atoms], None],
) -> Iterator[Relaxed]:
    from atomsml.cli.job import label
    from atomsml.cli.output import follow, snapshot
    from atomsml.simulate.relax import iterate_relax

    for number, structure in list(structures.items()):
        atoms, states = structure.atoms.copy(), []
        atoms.calc = job.calculator
        run = iterate_relax(atoms, settings)
        try:
            for state in follow(run, settings.steps, label(structure), _describe):
                states.append(state)
                write_frame(atoms)
        except ValueError as error:  # atoms that overlap, for example
            job.refuse(structure, str(error))
        else:
            yield Relaxed(number, snapshot(atoms), states[0].energy, states[-1])


def _describe(state: RelaxState) -> str:
    return f"{state.energy:.4f} eV, max force {state.fmax:.4f} eV/A"
