"""Molecular dynamics of one system, by an integrator of integrators.py and, where it asks for one, of thermostats.py.

Where nothing holds the atoms in space, the centre of mass is held at rest: momenta and noise are projected, which
leaves the canonical distribution of the other 3N - 3 degrees of freedom, and temperatures count just those.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import ase
import numpy as np
from ase import units
from ase.constraints import FixCom
from ase.md.md import MolecularDynamics

from atomsml.geometry import ImpossibleGeometry
from atomsml.simulate.integrators import INTEGRATORS
from atomsml.simulate.thermostats import THERMOSTATS

# A: no integrator follows an atom that crosses a bond length in one step; at 1 fs this is hydrogen at 400,000 K
LARGEST_DISPLACEMENT = 1.0
REMEDY = "try a smaller time step, relax the start structure, or a model that was made for such atoms"


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
        draw_velocities(atoms, settings.temperature, rng)
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


def draw_velocities(atoms: ase.Atoms, temperature: float, rng: np.random.Generator) -> None:
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
