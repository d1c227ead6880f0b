"""The loop of md: batches of structures one after the other, with the rate, until all are done or Ctrl-C."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    import ase

    from atomsml.cli.job import Job
    from atomsml.cli.md.outputs import Output
    from atomsml.cli.md.settings import Settings
    from atomsml.simulate.dynamics.integrator import Integrator
    from atomsml.simulate.md import Frame
    from atomsml.simulate.model import Model

BATCH_ATOMS = 4000  # that run together


@dataclass
class Rate:
    """How quick the run is; what an earlier process did does not count."""

    steps: int = 0  # of batches
    atom_steps: int = 0
    seconds: float = 0.0

    def count(self, steps: int, atoms: int, seconds: float) -> None:
        self.steps += steps
        self.atom_steps += steps * atoms
        self.seconds += seconds

    def facts(self, timestep: float) -> dict[str, float]:
        """atoms/s, and simulated ns of each structure in a day."""
        seconds = max(self.seconds, 1e-9)
        return {
            "atoms_per_s": round(self.atom_steps / seconds, 1),
            "ns_per_day": round(self.steps * timestep * 1e-6 * 86400 / seconds, 4),
        }

    def words(self, timestep: float) -> str:
        return "{atoms_per_s:.0f} atoms/s  {ns_per_day:.3g} ns/day".format(**self.facts(timestep))


def run(job: Job, settings: Settings, output: Output) -> tuple[Rate, KeyboardInterrupt | None]:
    """Move all structures of a job; a request to stop ends the run after the next frame, a second one at once."""
    from atomsml.cli.simulate.progress import progress
    from atomsml.signals import first_stop_noted
    from atomsml.simulate.model import Model

    structures = [structure.atoms for structure in job.structures]
    batches, model, rate = _batches(structures), Model.of(job.calculator), Rate()
    with progress("md", settings.steps * len(batches)) as report, first_stop_noted(_say_stopping) as stops:
        for batch, frames in _begin(structures, batches, model, job.calculator.device, settings, output):
            last, since = None, 0.0
            with closing(output.take(frames, model, batch)) as taken:
                for frame in taken:
                    now = time.perf_counter()
                    if last is not None:  # the first evaluation compiles
                        rate.count(frame.step - last, frame.state.num_atoms, now - since)
                    last, since = frame.step, now
                    report(batch * settings.steps + frame.step, _describe(frame, rate, settings))
                    if stops:
                        return rate, stops[0]
    return rate, None


def _say_stopping() -> None:
    typer.echo("stopping after the next frame; once more stops at once", err=True)


def _batches(structures: Sequence[ase.Atoms]) -> list[list[int]]:
    """The numbers of structures that run together, in order."""
    batches: list[list[int]] = []
    room = 0
    for number, atoms in enumerate(structures):
        if not batches or len(atoms) > room:
            batches.append([])
            room = BATCH_ATOMS
        batches[-1].append(number)
        room -= len(atoms)
    return batches


def _begin(
    structures: Sequence[ase.Atoms],
    batches: Sequence[Sequence[int]],
    model: Model,
    device: Any,
    settings: Settings,
    output: Output,
) -> Iterator[tuple[int, Iterator[Frame]]]:
    """The frames of each batch, from the start or from where an earlier process had got."""
    import torch

    from atomsml.simulate.md import md
    from atomsml.simulate.state import State, place_of

    integrator: Integrator[Any] = settings.integrator()
    place = place_of(device)
    everything = State.of(structures, place)
    pressures = bool(everything.pbc.all())
    begun, first = output.begun(), 0
    if begun is not None:
        first = int(begun.progress["batch"])
        begun = replace(
            begun,
            state=begun.state.to(place),
            memory={name: tensor.to(place) for name, tensor in begun.memory.items()},
            origin={name: tensor.to(place) for name, tensor in begun.origin.items()},
        )
        left = settings.steps - int(begun.state.step.max()) if begun.state.num_systems else 0
        if left > 0:
            state, memory = begun.restore(integrator, model)
            yield first, md(state, model, integrator, left, settings.interval, memory=memory, stress=pressures)
        first += 1
    for batch in range(first, len(batches)):
        state = everything.systems(torch.tensor(batches[batch], device=place))
        start = settings.temperatures
        frames = md(state, model, integrator, settings.steps, settings.interval, start, settings.seed, stress=pressures)
        yield batch, frames


def _describe(frame: Frame, rate: Rate, settings: Settings) -> str:
    energy, temperature = float(frame.potential.sum()), float(frame.temperature.mean())
    text = f"{frame.step * settings.timestep:.0f} fs  {energy:.4f} eV  {temperature:.0f} K"
    return f"{text}  {rate.words(settings.timestep)}" if rate.steps else text
