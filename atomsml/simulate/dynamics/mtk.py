"""Constant pressure and temperature: the equations of Martyna, Tobias and Klein, with Nose-Hoover chains."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from atomsml.geometry import volume
from atomsml.simulate.dynamics import chains
from atomsml.simulate.dynamics.cell_motion import (
    CELL_MOTIONS,
    check_movable,
    exponential,
    strain_work,
    transform,
)
from atomsml.simulate.dynamics.integrator import Integrator, kinetic_energy
from atomsml.simulate.dynamics.nve import kick
from atomsml.simulate.model import Model
from atomsml.simulate.schedules import Schedule, Value
from atomsml.simulate.state import Flat, PerSystem, State
from atomsml.units import FS, GPA, KB


@dataclass(eq=False)
class MTKMemory(Flat):
    """The rate of strain (systems, 3, 3) of `CellMotion`, and the chains (systems, links) of atoms and cell."""

    freedom: PerSystem  # (systems,) that of the atoms, 3N - 3
    strain_rate: PerSystem
    atom_place: PerSystem
    atom_rate: PerSystem
    cell_place: PerSystem
    cell_rate: PerSystem


class MTK(Integrator[MTKMemory]):
    """Martyna, Tobias, Klein, J. Chem. Phys. 101, 4177 (1994), as in Yu et al., Chem. Phys. 370, 294 (2010).

        r' = v + r G,    v' = F / m - v (G^T + tr G / N_f) - v eta',    h' = h G
        w e'' = projection of [sum of m v v^T - V stress + (2 K / N_f + kT - P V) 1] - w e' xi'

    with the generator G of the rate of strain e' (see `cell_motion`), N_f = 3N - 3 degrees of freedom of the atoms,
    whose centre of mass is at rest, w = (N_f + 3) kT tau^2 / 3 (a third of the mass of the isotropic barostat, because
    tr e'^2 is three times the square of its rate), and chains eta of the atoms and xi of the cell (see `chains`).

    The term kT is the share of the centre of mass in the pressure. It rests, and without its share volumes would be
    distributed by V^(N-1) instead of V^N times exp(-P V / kT) and the integral over atoms.

    The step is the reversible one of Martyna et al., Mol. Phys. 87, 1117 (1996), whose factors keep the measure of
    phase space that the exact flow keeps.

    Args:
        timestep: fs.
        temperature: K; a number, one for each structure, or a Schedule.
        pressure: GPa; likewise.
        thermostat_time: fs, tau of the chain of the atoms.
        barostat_time: fs, tau of the cell and of its chain.
        cell: a name of CELL_MOTIONS.
        links: of each chain.
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
        links: int = 3,
    ) -> None:
        self.dt, self.temperature, self.pressure = timestep * FS, Schedule.of(temperature), Schedule.of(pressure)
        self.thermostat_time, self.barostat_time = thermostat_time * FS, barostat_time * FS
        self.motion, self.links = CELL_MOTIONS[cell], links

    def start(self, state: State) -> MTKMemory:
        """Brings the centres of mass to rest; cell and chains begin at rest.

        Raises:
            ValueError: what `check_movable` refuses.
        """
        check_movable(state)
        state.velocities = state.moving(state.velocities)
        chain = chains.at_rest(state.energy, self.links)
        return MTKMemory(state.degrees_of_freedom, torch.zeros_like(state.cell), chain, chain, chain, chain)

    def step(self, state: State, memory: MTKMemory, model: Model) -> None:
        half = self.dt / 2
        self._thermostats(state, memory, half)
        self._push_cell(state, memory, half)
        generator = self.motion.generator(memory.strain_rate, state.cell)
        grow, shrink = exponential(generator * self.dt / 4)
        trace = generator.diagonal(dim1=1, dim2=2).sum(dim=1)
        slow = torch.exp(-trace / memory.freedom * self.dt / 4)[:, None, None] * shrink.mT
        self._kick(state, slow, half)
        grow = grow @ grow
        state.positions = transform(
            transform(state.positions, grow, state.batch) + self.dt * state.velocities, grow, state.batch
        )
        state.cell = state.cell @ grow @ grow
        model(state, stress=True)
        self._kick(state, slow, half)
        self._push_cell(state, memory, half)
        self._thermostats(state, memory, half)
        state.step = state.step + 1

    def conserved(self, state: State, memory: MTKMemory) -> Tensor:
        """E + K + w tr e'^2 / 2 + P V - kT ln V, and the energies of both chains."""
        kt, size, motion = self._kt(state), volume(state.cell), torch.full_like(state.energy, self.motion.freedom)
        of_cell = self._cell_kinetic(state, memory) + self.pressure(state) * GPA * size - kt * size.log()
        of_chains = chains.energy(memory.atom_place, memory.atom_rate, memory.freedom, kt, self.thermostat_time)
        of_chains = of_chains + chains.energy(memory.cell_place, memory.cell_rate, motion, kt, self.barostat_time)
        return state.energy + kinetic_energy(state) + of_cell + of_chains

    def _kt(self, state: State) -> Tensor:
        return KB * self.temperature(state)

    def _mass(self, state: State, memory: MTKMemory) -> Tensor:
        """(systems,) w."""
        return (memory.freedom + 3) * self._kt(state) * self.barostat_time**2 / 3

    def _cell_kinetic(self, state: State, memory: MTKMemory) -> Tensor:
        """(systems,) w tr e'^2 / 2."""
        return 0.5 * self._mass(state, memory) * memory.strain_rate.square().sum(dim=(1, 2))

    def _thermostats(self, state: State, memory: MTKMemory, time: float) -> None:
        kt, freedom = self._kt(state), torch.full_like(state.energy, self.motion.freedom)
        ratio = 2 * kinetic_energy(state) / (memory.freedom * kt)
        memory.atom_place, memory.atom_rate, scale = chains.propagate(
            memory.atom_place, memory.atom_rate, ratio, memory.freedom, self.thermostat_time, time
        )
        state.velocities = state.velocities * scale[state.batch, None]
        ratio = 2 * self._cell_kinetic(state, memory) / (freedom * kt)
        memory.cell_place, memory.cell_rate, scale = chains.propagate(
            memory.cell_place, memory.cell_rate, ratio, freedom, self.barostat_time, time
        )
        memory.strain_rate = memory.strain_rate * scale[:, None, None]

    def _push_cell(self, state: State, memory: MTKMemory, time: float) -> None:
        """e' += force / w t."""
        extra = 2 * kinetic_energy(state) / memory.freedom + self._kt(state)
        force = self.motion.project(strain_work(state, self.pressure(state) * GPA, extra), state.cell)
        memory.strain_rate = memory.strain_rate + time * force / self._mass(state, memory)[:, None, None]

    def _kick(self, state: State, slow: Tensor, time: float) -> None:
        """v' = F / m - v (G^T + tr G / N_f) over `time`, of whose second term `slow` is the effect of half."""
        state.velocities = transform(state.velocities, slow, state.batch)
        kick(state, time)
        state.velocities = transform(state.velocities, slow, state.batch)
