"""The loop of md: batches of structures one after the other, or side by side on several devices, until all are done."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    import ase
    import torch

    from atomsml.cli.job import Job
    from atomsml.cli.md.batches import Batches
    from atomsml.cli.md.outputs import Output
    from atomsml.cli.md.settings import Settings
    from atomsml.interfaces.ase import AtomsMLCalculator
    from atomsml.simulate.md import Frame
    from atomsml.simulate.model import Model
    from atomsml.simulate.trajectory import Checkpoint


@dataclass
class Rate:
    """How quick the run is; what an earlier process did does not count."""

    steps: int = 0  # of batches
    atom_steps: int = 0
    seconds: float = 0.0  # that batches took for these steps, of all devices together
    elapsed: float = 0.0  # meanwhile
    began: float | None = None

    def count(self, steps: int, atoms: int, since: float, now: float) -> None:
        self.began = since if self.began is None else self.began
        self.steps += steps
        self.atom_steps += steps * atoms
        self.seconds += now - since
        self.elapsed = now - self.began

    def facts(self, timestep: float) -> dict[str, float]:
        """atoms/s, and simulated ns of each structure in a day."""
        return {
            "atoms_per_s": round(self.atom_steps / max(self.elapsed, 1e-9), 1),
            "ns_per_day": round(self.steps * timestep * 1e-6 * 86400 / max(self.seconds, 1e-9), 4),
        }

    def words(self, timestep: float) -> str:
        return "{atoms_per_s:.0f} atoms/s  {ns_per_day:.3g} ns/day".format(**self.facts(timestep))


@dataclass(frozen=True)
class Batch:
    """Structures that run together."""

    number: int
    systems: list[int]  # their numbers in the run
    structures: list[ase.Atoms]
    checkpoint: Checkpoint | None  # from where they go on, if they have begun

    def left(self, settings: Settings) -> int:
        """How many steps are still to be made."""
        if self.checkpoint is None:
            return settings.steps
        state = self.checkpoint.state
        return settings.steps - int(state.step.max()) if state.num_systems else 0


def run(
    job: Job, settings: Settings, output: Output, batches: Batches, devices: Sequence[str]
) -> tuple[Rate, KeyboardInterrupt | ChildProcessError | None]:
    """Move all structures of a job.

    A request to stop ends the run after the next frame, a second one at once; where the process of a device died, the
    others have finished. Both are returned.
    """
    from atomsml.cli.simulate.devices import stream
    from atomsml.cli.simulate.progress import progress
    from atomsml.signals import first_stop_noted

    structures = [structure.atoms for structure in job.structures]
    whole = [Batch(n, each, [structures[i] for i in each], output.checkpoint(n)) for n, each in enumerate(batches)]
    waiting = [batch for batch in whole if batch.left(settings) >= settings.interval or batch.checkpoint is None]
    done = {batch.number: settings.steps for batch in whole} | {batch.number: 0 for batch in waiting}
    task = partial(move, settings, all(atoms.pbc.all() for atoms in structures))
    rate, last = Rate(), dict[int, tuple[int, float]]()
    with progress("md", settings.steps * len(whole)) as report, first_stop_noted(_say_stopping) as stops:
        try:
            with closing(stream(job, devices, task, waiting, part=1)) as frames:
                for _, (frame, checkpoint) in frames:
                    output.take(frame, checkpoint)
                    now, batch = time.perf_counter(), checkpoint.batch
                    if batch in last:  # the first evaluation compiles
                        step, since = last[batch]
                        rate.count(frame.step - step, frame.state.num_atoms, since, now)
                    last[batch], done[batch] = (frame.step, now), frame.step
                    report(sum(done.values()), _describe(frame, rate, settings))
                    if stops:
                        return rate, stops[0]
        except ChildProcessError as error:
            return rate, error
    return rate, None


def _say_stopping() -> None:
    typer.echo("stopping after the next frame; once more stops at once", err=True)


def move(
    settings: Settings, stress: bool, calculator: AtomsMLCalculator, batches: Sequence[Batch]
) -> Iterator[tuple[int, tuple[Frame, Checkpoint]]]:
    """Frames of batches one after the other, each with the place in the list, and from where its batch goes on."""
    import torch

    from atomsml.simulate.model import Model
    from atomsml.simulate.state import place_of
    from atomsml.simulate.trajectory import Checkpoint

    model, place = Model.of(calculator), place_of(calculator.device)
    here = torch.device("cpu")
    for i, batch in enumerate(batches):
        for frame in _frames(batch, model, place, settings, stress):
            checkpoint = replace(Checkpoint.of(frame.state, frame.memory, model), batch=batch.number)
            yield i, (frame.to(here), checkpoint.to(here))


def _frames(batch: Batch, model: Model, place: torch.device, settings: Settings, stress: bool) -> Iterator[Frame]:
    """From the start or from where an earlier process had got."""
    import torch

    from atomsml.simulate.md import md
    from atomsml.simulate.state import State

    integrator, every = settings.integrator(), settings.interval
    if batch.checkpoint is not None:
        state, memory = batch.checkpoint.to(place).restore(integrator, model)
        yield from md(state, model, integrator, batch.left(settings), every, memory=memory, stress=stress)
        return
    state = State.of(batch.structures, place)
    state.index = torch.tensor(batch.systems, device=place)
    if settings.replicas:
        state.group = torch.zeros_like(state.group)  # one ladder
    start = settings.temperatures
    yield from md(state, model, integrator, settings.steps, every, start, settings.seed, stress=stress)


def _describe(frame: Frame, rate: Rate, settings: Settings) -> str:
    energy, temperature = float(frame.potential.sum()), float(frame.temperature.mean())
    text = f"{frame.step * settings.timestep:.0f} fs  {energy:.4f} eV  {temperature:.0f} K"
    return f"{text}  {rate.words(settings.timestep)}" if rate.steps else text
