"""Constant pressure and temperature by random strains of the cell and random rescaling of velocities."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from atomsml.geometry import volume
from atomsml.simulate.dynamics.cell_motion import (
    cell_motion,
    check_movable,
    exponential,
    strain_work,
    transform,
)
from atomsml.simulate.dynamics.csvr import CSVR
from atomsml.simulate.dynamics.integrator import Integrator, internal_time, kinetic_energy
from atomsml.simulate.dynamics.nve import kick
from atomsml.simulate.model import Model
from atomsml.simulate.random import Stream, system_matrices
from atomsml.simulate.schedules import Value, pressures, temperatures
from atomsml.simulate.state import Flat, PerSystem, State
from atomsml.units import GPA, KB


@dataclass(eq=False)
class SCRMemory(Flat):
    """What the systems were, and eV (systems,) that thermostat, barostat and changes of temperature put in so far."""

    start_volume: PerSystem  # (systems,) A^3
    work: PerSystem


class SCR(Integrator[SCRMemory]):
    """Stochastic cell rescaling (Bernetti and Bussi, J. Chem. Phys. 153, 114107 (2020); of cells that change their
    shape Del Tatto et al., Appl. Sci. 12, 1139 (2022)): in every step the cell strains by

        e = m f dt + sqrt(2 m kT dt) R,    m = beta / (3 V_0 tau)

    where f is the projection of sum of m v v^T - V stress + (2 kT - P V) 1 (see `cell_motion`), minus the derivative of

        Phi = E + K + P V - 2 kT ln V

    by the strain, R the projection of nine independent normal numbers, and V_0 the volume at the start. Of 2 kT one
    is the measure of the volume, dV = V d ln V, and one the share that the centre of mass, which rests, has in the
    pressure.

    The strain is in the middle of a step of velocity Verlet, and a step with -e undoes one with e. So what a step
    leaves of detailed balance is known, and is by what the conserved energy changes,

        Phi(x') - Phi(x) + kT ln [p(e | x) / p(-e | x')] - heat of the thermostat

    with the density p of e. This falls with dt only if the noise does not depend on the state. For volumes Bernetti and
    Bussi take the square root of V as the variable; here it is the strain, for any shape, hence V_0 instead of V in m.
    Temperatures are held by `CSVR`.

    Args:
        timestep: fs.
        temperature: K; a number, one for each structure, or a Schedule.
        pressure: GPa; likewise.
        thermostat_time: fs, of CSVR.
        barostat_time: fs, tau, in which the volume forgets where it was.
        cell: a name of CELL_MOTIONS.
        compressibility: 1/GPa, beta, an estimate: one that is too large only makes tau shorter by as much. Water has
            0.45, metals have some 0.01.
        seed: of the noise.

    Raises:
        ValueError: a parameter that is not possible.
    """

    needs_stress = True

    def __init__(
        self,
        timestep: float,
        temperature: Value,
        pressure: Value = 0.0,
        thermostat_time: float = 100.0,
        barostat_time: float = 1000.0,
        cell: str = "isotropic",
        compressibility: float = 0.1,
        seed: int = 0,
    ) -> None:
        self.dt = internal_time("timestep", timestep)
        self.temperature, self.pressure = temperatures(temperature), pressures(pressure)
        self.thermostat = CSVR(timestep, temperature, thermostat_time, seed)
        if not (math.isfinite(compressibility) and compressibility > 0):
            raise ValueError(f"the compressibility must be a positive number of 1/GPa, got {compressibility}")
        self.mobility = compressibility / GPA / (3 * internal_time("barostat_time", barostat_time))
        self.motion, self.seed = cell_motion(cell), seed

    def start(self, state: State) -> SCRMemory:
        """Brings the centres of mass to rest.

        Raises:
            ValueError: what `check_movable` refuses, or atoms at rest.
        """
        check_movable(state)
        state.velocities = state.moving(state.velocities)
        return SCRMemory(volume(state.cell), self.thermostat.start(state).heat)

    def step(self, state: State, memory: SCRMemory, model: Model) -> None:
        kt, pressure = self._targets(state)
        spread = (2 * self.mobility / memory.start_volume * self.dt)[:, None, None]  # 2 m dt
        pull = spread / 2 * self._force(state, kt, pressure)
        noise = self.motion.project(system_matrices(state, self.seed, Stream.BAROSTAT))
        strain = pull + (spread * kt[:, None, None]).sqrt() * noise
        self._move(state, strain, model)
        back = spread / 2 * self._force(state, kt, pressure)
        ratio = ((strain + back).square() - (strain - pull).square()) / (2 * spread)  # kT ln [p(e | x) / p(-e | x')]
        memory.work = memory.work - ratio.sum(dim=(1, 2)) + self.thermostat.rescale(state)
        state.step = state.step + 1
        new_kt, new_pressure = self._targets(state)
        memory.work = memory.work + _of_volume(state, new_kt - kt, new_pressure - pressure)

    def conserved(self, state: State, memory: SCRMemory) -> Tensor:
        return state.energy + kinetic_energy(state) + _of_volume(state, *self._targets(state)) - memory.work

    def _targets(self, state: State) -> tuple[Tensor, Tensor]:
        """(systems,) kT in eV and P in eV/A^3 at the present step."""
        return KB * self.temperature(state), GPA * self.pressure(state)

    def _force(self, state: State, kt: Tensor, pressure: Tensor) -> Tensor:
        """(systems, 3, 3) f."""
        return self.motion.force(strain_work(state, pressure, 2 * kt), state.cell)

    def _move(self, state: State, strain: Tensor, model: Model) -> None:
        """Velocity Verlet with a strain in its middle."""
        kick(state, self.dt / 2)
        state.positions = state.positions + self.dt / 2 * state.velocities
        grow, shrink = exponential(self.motion.generator(strain, state.cell))
        state.cell = state.cell @ grow
        state.positions = transform(state.positions, grow, state.batch)
        state.velocities = transform(state.velocities, shrink.mT, state.batch)
        state.positions = state.positions + self.dt / 2 * state.velocities
        model(state, stress=True)
        kick(state, self.dt / 2)


def _of_volume(state: State, kt: Tensor, pressure: Tensor) -> Tensor:
    """(systems,) P V - 2 kT ln V, eV."""
    size = volume(state.cell)
    return pressure * size - 2 * kt * size.log()
