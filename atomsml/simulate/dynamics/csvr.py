"""Constant temperature by a random rescaling of all velocities of a system."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from atomsml.simulate.dynamics.integrator import Heat, kinetic_energy
from atomsml.simulate.dynamics.nve import drift, kick
from atomsml.simulate.dynamics.thermostat import Thermostat
from atomsml.simulate.model import Model
from atomsml.simulate.random import Stream, atom_normals, places
from atomsml.simulate.state import State, total
from atomsml.units import KB


class CSVR(Thermostat):
    """Velocity Verlet, then canonical sampling through velocity rescaling: v is multiplied by a, where

        a^2 = c + (1 - c) (R_1^2 + ... + R_N^2) kT / 2 K + 2 R_1 sqrt(c (1 - c) kT / 2 K),    c = exp(-dt / tau)

    with N degrees of freedom of kinetic energy K and independent normal numbers R, which is the exact solution of
    dK = (N kT / 2 - K) dt / tau + 2 sqrt(K kT / 2) dW / sqrt(tau) (Bussi, Donadio, Parrinello, J. Chem. Phys. 126,
    014101 (2007), Eq. A7; the sign of a is that of R_1 + sqrt(2 c K / ((1 - c) kT)), Bussi and Parrinello, Comput.
    Phys. Commun. 179, 26 (2008)). Disturbs the dynamics little, as diffusion needs it. Conserved is the energy less the
    heat that was put in.

    Args:
        timestep: fs.
        temperature: K; a number, one for each structure, or a Schedule.
        thermostat_time: fs, after which the kinetic energy is forgotten.
        seed: of the noise.
    """

    def start(self, state: State) -> Heat:
        if bool((kinetic_energy(state) == 0).any()):
            raise ValueError("atoms at rest stay there when velocities are rescaled; give a temperature to start from")
        return Heat(torch.zeros_like(state.energy))

    def step(self, state: State, memory: Heat, model: Model) -> None:
        kick(state, self.dt / 2)
        drift(state, self.dt)
        model(state)
        kick(state, self.dt / 2)
        memory.heat = memory.heat + self.rescale(state)
        state.step = state.step + 1

    def rescale(self, state: State) -> Tensor:
        """Scale the velocities as in a step; returns the heat (systems,) that this puts in, eV."""
        kinetic = kinetic_energy(state)
        factor = self._factor(state, kinetic)
        state.velocities = factor[state.batch, None] * state.velocities
        return (factor.square() - 1) * kinetic

    def _factor(self, state: State, kinetic: Tensor) -> Tensor:
        """(systems,) a."""
        number = 3 * places(state)[:, None] + torch.arange(3, device=state.device)
        counts = number < state.degrees_of_freedom.round()[state.batch, None]
        normal = atom_normals(state, self.seed, Stream.RESCALING).masked_fill(~counts, 0)
        squares = total(normal.square().sum(dim=1), state.batch, state.num_systems)
        first = total(normal[:, 0].masked_fill(number[:, 0] > 0, 0), state.batch, state.num_systems)
        kept = math.sqrt(self.kept)
        width = ((1 - self.kept) * KB * self.temperature(state) / (2 * kinetic)).sqrt()
        # the same as above: kept and width R_1 make the component along v, the other R those across it
        along = kept + width * first
        return along.sign() * (along.square() + width.square() * (squares - first.square())).sqrt()
