"""Constant pressure and temperature: the equations of Martyna, Tobias and Klein, with Nose-Hoover chains."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from atomsml.geometry import volume
from atomsml.simulate.dynamics import chains
from atomsml.simulate.dynamics.cell_motion import (
    cell_motion,
    check_movable,
    exponential,
    strain_work,
    transform,
)
from atomsml.simulate.dynamics.integrator import Integrator, internal_time, kinetic_energy
from atomsml.simulate.dynamics.nve import kick
from atomsml.simulate.model import Model
from atomsml.simulate.schedules import Value, pressures, temperatures
from atomsml.simulate.state import Flat, PerSystem, State
from atomsml.units import GPA, KB


@dataclass(eq=False)
class MTKMemory(Flat):
    """The rate of strain (systems, 3, 3) of `CellMotion`, and the chains (systems, links) of atoms and cell.

    freedom: (systems,) 3N - 3; work: (systems,) eV that changes of temperature and pressure have put in so far.
    """

    freedom: PerSystem
    strain_rate: PerSystem
    atom_place: PerSystem
    atom_rate: PerSystem
    cell_place: PerSystem
    cell_rate: PerSystem
    work: PerSystem


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

    Raises:
        ValueError: a parameter that is not possible, such as a temperature of 0 K, which no chain holds.
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
        self.dt = internal_time("timestep", timestep)
        self.temperature, self.pressure = temperatures(temperature), pressures(pressure)
        self.thermostat_time = internal_time("thermostat_time", thermostat_time)
        self.barostat_time = internal_time("barostat_time", barostat_time)
        self.motion, self.links = cell_motion(cell), links
        if min(self.temperature.values) <= 0:
            raise ValueError(f"Nose-Hoover chains hold temperatures above zero, got {self.temperature.values} K")

    def start(self, state: State) -> MTKMemory:
        """Brings the centres of mass to rest; cell and chains begin at rest.

        Raises:
            ValueError: what `check_movable` refuses.
        """
        check_movable(state)
        state.velocities = state.moving(state.velocities)
        chain = chains.at_rest(state.energy, self.links)
        still, none = torch.zeros_like(state.cell), torch.zeros_like(state.energy)
        return MTKMemory(state.degrees_of_freedom, still, chain, chain, chain, chain, none)

    def step(self, state: State, memory: MTKMemory, model: Model) -> None:
        half = self.dt / 2
        kt, pressure = self._targets(state)
        self._thermostats(state, memory, kt, half)
        self._push_cell(state, memory, kt, pressure, half)
        self._move(state, memory, model)
        self._push_cell(state, memory, kt, pressure, half)
        self._thermostats(state, memory, kt, half)
        state.step = state.step + 1
        new_kt, new_pressure = self._targets(state)
        memory.work = memory.work + self._extension(state, memory, new_kt - kt, new_pressure - pressure)

    def conserved(self, state: State, memory: MTKMemory) -> Tensor:
        """E + K + w tr e'^2 / 2 + P V - kT ln V + energies of the chains - work of changes of T and P."""
        extension = self._extension(state, memory, *self._targets(state))
        return state.energy + kinetic_energy(state) + extension - memory.work

    def _targets(self, state: State) -> tuple[Tensor, Tensor]:
        """(systems,) kT in eV and P in eV/A^3 at the present step."""
        return KB * self.temperature(state), GPA * self.pressure(state)

    def _extension(self, state: State, memory: MTKMemory, kt: Tensor, pressure: Tensor) -> Tensor:
        """(systems,) eV of cell and chains, linear in kT and P."""
        size, freedom = volume(state.cell), self._cell_freedom(state)
        of_atoms = chains.energy(memory.atom_place, memory.atom_rate, memory.freedom, kt, self.thermostat_time)
        of_cell = chains.energy(memory.cell_place, memory.cell_rate, freedom, kt, self.barostat_time)
        kinetic = 0.5 * kt * self._inertia(memory) * memory.strain_rate.square().sum(dim=(1, 2))
        return of_atoms + of_cell + kinetic + pressure * size - kt * size.log()

    def _inertia(self, memory: MTKMemory) -> Tensor:
        """(systems,) w / kT."""
        return (memory.freedom + 3) * self.barostat_time**2 / 3

    def _cell_freedom(self, state: State) -> Tensor:
        return torch.full_like(state.energy, self.motion.freedom)

    def _thermostats(self, state: State, memory: MTKMemory, kt: Tensor, time: float) -> None:
        """Move both chains, and scale velocities and rate of strain by them."""
        ratio = 2 * kinetic_energy(state) / (memory.freedom * kt)
        memory.atom_place, memory.atom_rate, scale = chains.propagate(
            memory.atom_place, memory.atom_rate, ratio, memory.freedom, self.thermostat_time, time
        )
        state.velocities = state.velocities * scale[state.batch, None]
        ratio = self._inertia(memory) * memory.strain_rate.square().sum(dim=(1, 2)) / self.motion.freedom
        memory.cell_place, memory.cell_rate, scale = chains.propagate(
            memory.cell_place, memory.cell_rate, ratio, self._cell_freedom(state), self.barostat_time, time
        )
        memory.strain_rate = memory.strain_rate * scale[:, None, None]

    def _push_cell(self, state: State, memory: MTKMemory, kt: Tensor, pressure: Tensor, time: float) -> None:
        """e' += force / w t."""
        work = strain_work(state, pressure, 2 * kinetic_energy(state) / memory.freedom + kt)
        acceleration = self.motion.force(work, state.cell) / (kt * self._inertia(memory))[:, None, None]
        memory.strain_rate = memory.strain_rate + time * acceleration

    def _move(self, state: State, memory: MTKMemory, model: Model) -> None:
        """A step of velocity Verlet in a cell that strains at a constant rate."""
        generator = self.motion.generator(memory.strain_rate, state.cell)
        grow, shrink = exponential(generator * self.dt / 4)
        trace = generator.diagonal(dim1=1, dim2=2).sum(dim=1)
        slow = torch.exp(-trace / memory.freedom * self.dt / 4)[:, None, None] * shrink.mT
        grow = grow @ grow
        self._kick(state, slow)
        state.positions = transform(state.positions, grow, state.batch) + self.dt * state.velocities
        state.positions = transform(state.positions, grow, state.batch)
        state.cell = state.cell @ grow @ grow
        model(state, stress=True)
        self._kick(state, slow)

    def _kick(self, state: State, slow: Tensor) -> None:
        """v' = F / m - v (G^T + tr G / N_f) over half a step; `slow` is what its second term does in half of that."""
        state.velocities = transform(state.velocities, slow, state.batch)
        kick(state, self.dt / 2)
        state.velocities = transform(state.velocities, slow, state.batch)
