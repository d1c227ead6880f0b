"""Molecular dynamics of many systems as a loop.

    for frame in md([atoms], model, Langevin(timestep=1.0, temperature=300.0), steps=1000, every=10, temperature=300.0):
        print(frame.step, frame.potential, frame.temperature)

Where nothing holds the atoms in space, the centre of mass is held at rest, which leaves the canonical distribution of
the other 3N - 3 degrees of freedom, and temperatures count just those (`State.rest`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import ase
import numpy as np
from ase import units
from ase.constraints import FixCom
from ase.md.md import MolecularDynamics
from torch import Tensor

from atomsml.geometry import ImpossibleGeometry, volume
from atomsml.simulate.dynamics.integrator import Integrator, Memory, kinetic_energy
from atomsml.simulate.integrators import INTEGRATORS
from atomsml.simulate.model import Model
from atomsml.simulate.schedules import Value
from atomsml.simulate.stability import LARGEST_DISPLACEMENT, REMEDY, Lost, Watch
from atomsml.simulate.state import Flat, State
from atomsml.simulate.thermostats import THERMOSTATS
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
        """eV/A^3: N kB T / V - tr stress / 3 with N atoms that may move; not finite where there is no stress."""
        atoms = (self.state.degrees_of_freedom + self.state.rest.diagonal(dim1=1, dim2=2).sum(dim=1)) / 3
        trace = self.state.stress.diagonal(dim1=1, dim2=2).sum(dim=1)
        return KB * self.temperature * atoms / self.volume - trace / 3


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
    watch.check(state, state.positions)
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
            before = state.positions
            integrator.step(state, memory, model)
            watch.check(state, before)
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


@dataclass(frozen=True)
class MDSettings:
    """How to run.

    Raises:
        ValueError: an unknown ensemble or thermostat, or a number that is not positive.
    """

    ensemble: str = "nvt"  # a key of INTEGRATORS
    temperature: float = 300.0  # K; of the start velocities, and in NVT of the thermostat
    timestep: float = 1.0  # fs
    steps: int = 1000
    thermostat_time: float = 100.0  # fs, after which the thermostat has forgotten a momentum: the inverse friction
    thermostat: str = "langevin"  # a key of THERMOSTATS, for ensembles with a temperature

    def __post_init__(self) -> None:
        known = {"ensemble": list(INTEGRATORS), "thermostat": list(THERMOSTATS)}
        for kind, names in known.items():
            if getattr(self, kind) not in names:
                raise ValueError(f"unknown {kind} {getattr(self, kind)!r}; there are {', '.join(names)}")
        for name, unit in (("temperature", "K"), ("timestep", "fs"), ("thermostat_time", "fs")):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a positive number of {unit}, got {value}")
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")


@dataclass(frozen=True)
class MDState:
    """Energies and temperature after a step."""

    step: int
    time: float  # fs
    potential_energy: float  # eV
    kinetic_energy: float  # eV
    temperature: float  # K

    @property
    def total_energy(self) -> float:
        return self.potential_energy + self.kinetic_energy


class UnstableDynamics(ValueError):
    """The energy is no longer finite, or an atom moved more than LARGEST_DISPLACEMENT in one step."""


def iterate_md(atoms: ase.Atoms, settings: MDSettings, rng: np.random.Generator) -> Iterator[MDState]:
    """Run MD on `atoms`, which must have a calculator, in place, yielding a state at the start and after every step.

    The start velocities are drawn from the Maxwell-Boltzmann distribution. In NVE, atoms that start at a minimum
    therefore settle near half of the temperature: the other half becomes potential energy.

    Raises:
        ValueError: a single free atom, which cannot move when its centre of mass is at rest.
        UnstableDynamics: the run exploded; says at which step.
    """
    given = atoms.constraints
    if not given and len(atoms) == 1:
        raise ValueError("a single atom cannot move when its centre of mass is at rest; give at least two")
    held = given or [FixCom()]
    atoms.set_constraint(held)
    try:
        draw_momenta(atoms, settings.temperature, rng)
        dynamics = INTEGRATORS[settings.ensemble].dynamics(atoms, settings, rng)
        before = atoms.get_positions()
        for _ in _stable(dynamics, settings.steps):
            # just computed by the integrator; asked for through `atoms`, they would cost two more comparisons of all
            # arrays, which a small molecule would notice
            results = atoms.calc.results
            state = _measure(atoms, results["energy"], dynamics.nsteps, settings.timestep)
            _check_stable(state, results["forces"], atoms.positions - before)
            before = atoms.get_positions()
            atoms.set_constraint(given)  # the caller sees, and may write, the atoms as they were given
            yield state
            atoms.set_constraint(held)
    finally:
        atoms.set_constraint(given)


def _stable(dynamics: MolecularDynamics, steps: int) -> Iterator[bool]:
    """The steps of `dynamics`; where the calculator has no answer any more, the run has exploded."""
    try:
        yield from dynamics.irun(steps=steps)
    except ImpossibleGeometry as error:
        raise UnstableDynamics(f"{error} (at step {dynamics.nsteps}); {REMEDY}") from None


def draw_momenta(atoms: ase.Atoms, temperature: float, rng: np.random.Generator) -> None:
    """Draw momenta from exp(-sum p^2 / (2 m kB T)), projected by the constraints of `atoms`; temperature in K."""
    width = np.sqrt(atoms.get_masses() * units.kB * temperature)
    atoms.set_momenta(rng.standard_normal((len(atoms), 3)) * width[:, None], apply_constraint=True)


def _measure(atoms: ase.Atoms, energy: float, step: int, timestep: float) -> MDState:
    return MDState(
        step=step,
        time=step * timestep,
        potential_energy=float(energy),
        kinetic_energy=float(atoms.get_kinetic_energy()),
        temperature=float(atoms.get_temperature()),
    )


def _check_stable(state: MDState, forces: np.ndarray, displacements: np.ndarray) -> None:
    distances = np.linalg.norm(displacements, axis=1)
    if not (math.isfinite(state.total_energy) and np.isfinite(forces).all()):
        raise UnstableDynamics(f"energy or forces are not finite at step {state.step}; {REMEDY}")
    if distances.max() > LARGEST_DISPLACEMENT:
        raise UnstableDynamics(
            f"atom {distances.argmax()} moved by {distances.max():.1f} A in step {state.step}; {REMEDY}"
        )
