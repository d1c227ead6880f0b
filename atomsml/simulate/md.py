"""Molecular dynamics of many systems as a loop.

    for frame in md([atoms], model, Langevin(timestep=1.0, temperature=300.0), steps=1000, every=10, temperature=300.0):
        print(frame.step, frame.potential, frame.temperature)

Where nothing holds the atoms in space, the centre of mass is held at rest, which leaves the canonical distribution of
the other 3N - 3 degrees of freedom, and temperatures count just those (`State.rest`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import ase
import torch
from torch import Tensor

from atomsml.geometry import volume
from atomsml.simulate.dynamics.integrator import Integrator, Memory, kinetic_energy
from atomsml.simulate.model import Model
from atomsml.simulate.schedules import Value
from atomsml.simulate.stability import Lost, Watch
from atomsml.simulate.state import Flat, State, total
from atomsml.simulate.velocities import draw_velocities
from atomsml.units import KB


@dataclass(frozen=True, eq=False)
class Frame:
    """The systems that run, after a step; each tensor has a row for each of them, in float64.

    State and memory move on with the run: what is to be kept is copied.
    """

    step: int
    state: State
    memory: Flat  # of the integrator
    conserved: Tensor  # eV: what an exact integration would keep constant
    lost: tuple[Lost, ...]  # systems that left since the last frame

    def to(self, device: torch.device) -> Frame:
        return replace(
            self, state=self.state.to(device), memory=self.memory.to(device), conserved=self.conserved.to(device)
        )

    @property
    def potential(self) -> Tensor:
        """eV."""
        return self.state.energy

    @property
    def kinetic(self) -> Tensor:
        """eV."""
        return kinetic_energy(self.state)

    @property
    def temperature(self) -> Tensor:
        """K."""
        return 2 * self.kinetic / (KB * self.state.degrees_of_freedom)

    @property
    def volume(self) -> Tensor:
        """A^3; 0 where there is no cell."""
        return volume(self.state.cell)

    @property
    def pressure(self) -> Tensor:
        """eV/A^3: N kB T / V - tr stress / 3 with N atoms that may move.

        Not finite where there is no stress, nor where bonds are rigid: the forces in them are not counted.
        """
        atoms = (self.state.degrees_of_freedom + self.state.rest.diagonal(dim1=1, dim2=2).sum(dim=1)) / 3
        trace = self.state.stress.diagonal(dim1=1, dim2=2).sum(dim=1)
        pressure = KB * self.temperature * atoms / self.volume - trace / 3
        rigid = total((self.state.ends != 0).sum(dim=1), self.state.batch, self.state.num_systems) > 0
        return pressure.masked_fill(rigid, torch.nan)


def md(
    systems: Sequence[ase.Atoms] | State,
    model: Model,
    integrator: Integrator[Memory],
    steps: int,
    every: int = 1,
    temperature: Value | None = None,
    seed: int = 0,
    memory: Memory | None = None,
    stress: bool = False,
) -> Iterator[Frame]:
    """Move all systems by `steps` steps; yields a frame at the start and after every `every` of them.

    A system in which nothing can move, whose energy or forces are not finite, or of which an atom moves more than
    stability.LARGEST_DISPLACEMENT in a step leaves: the next frame tells of it. The others go on; when none is left,
    the run ends.

    Args:
        temperature: K; draws the velocities of the start (see `draw_velocities`). Without it they are as given.
        memory: of the integrator, when a run goes on; then the state has been evaluated.
        stress: whether frames know the stress and the pressure at fixed cells, too, which takes another evaluation.

    Raises:
        ValueError: nothing can move in any system.
    """
    state = systems if isinstance(systems, State) else State.of(systems)
    watch = Watch.of(state)
    lost = watch.lost(state)
    if len(lost) == state.num_systems:
        raise ValueError(lost[0].reason)
    if lost:
        rows = watch.left(state)
        state, watch, memory = state.take(*rows), watch.take(*rows), None if memory is None else memory.take(*rows)
    if temperature is not None:
        draw_velocities(state, temperature, seed)
    if memory is None:
        model(state, stress=integrator.needs_stress)
        memory = integrator.start(state)
    watch.check(state, memory, (state, memory))
    step = int(state.step.max())
    last = step + steps
    while True:
        state, memory, watch, exploded = _without_exploded(state, memory, watch)
        if stress and not integrator.needs_stress and state.num_systems:
            asked = replace(state)  # forces remain those of the run, bit for bit
            model(asked, stress=True)
            state.stress = asked.stress
        yield Frame(step, state, memory, integrator.conserved(state, memory), lost + exploded)
        if step + every > last or not state.num_systems:
            return
        lost = ()
        for _ in range(every):
            before = replace(state), replace(memory)
            integrator.step(state, memory, model)
            watch.check(state, memory, before)
            if state.device.type == "cpu":  # elsewhere a look would wait, and they stand until the next frame
                state, memory, watch, exploded = _without_exploded(state, memory, watch)
                lost += exploded
                if not state.num_systems:
                    break
        step += every


def _without_exploded(state: State, memory: Memory, watch: Watch) -> tuple[State, Memory, Watch, tuple[Lost, ...]]:
    lost = watch.lost(state)
    if lost:
        rows = watch.left(state)
        state, memory, watch = state.take(*rows), memory.take(*rows), watch.take(*rows)
    return state, memory, watch, lost
