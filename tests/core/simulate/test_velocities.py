"""Velocities of the start beside what ASE leaves of them."""

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from ase.constraints import FixAtoms
from ase.md.velocitydistribution import ZeroRotation

from atomsml.potential import Prediction
from atomsml.simulate.dynamics.csvr import CSVR
from atomsml.simulate.dynamics.langevin import Langevin
from atomsml.simulate.md import md
from atomsml.simulate.model import Model
from atomsml.simulate.state import State, total
from atomsml.simulate.velocities import draw_velocities

HELD = molecule("CH3OH")
HELD.set_constraint(FixAtoms([0]))


def test_what_does_not_turn_is_what_ase_stops():
    structures = [molecule("CH3OH"), molecule("CO2"), HELD, bulk("Cu", cubic=True), molecule("CO")]
    turning, still = State.of(structures), State.of(structures)
    draw_velocities(turning, 300.0, seed=4)
    draw_velocities(still, 300.0, seed=4, turning=False)
    assert (turning.degrees_of_freedom - still.degrees_of_freedom).tolist() == [3, 2, 0, 0, 2]
    for i, structure in enumerate(structures):
        atoms = structure.copy()
        atoms.set_velocities(turning.velocities[turning.batch == i].numpy())
        if i in (0, 1, 4):
            with np.errstate(invalid="ignore"):  # it divides by the moments of linear molecules
                ZeroRotation(atoms, preserve_temperature=False)
        assert still.velocities[still.batch == i].numpy() == pytest.approx(atoms.get_velocities(), abs=1e-10)


def test_a_rescaled_molecule_that_does_not_turn_has_the_temperature_of_what_vibrates():
    """Of atoms on springs to all others, at rest angular momentum."""

    def springs(graph, forces=True, stress=False):
        x = graph.positions.reshape(graph.num_systems, -1, 3)
        away = x[:, :, None] - x[:, None]
        length = away.norm(dim=-1) + torch.eye(x.shape[1])
        stretch = (length - 1.5) * (1 - torch.eye(x.shape[1], dtype=x.dtype))
        pull = -10 * (stretch[..., None] * away / length[..., None]).sum(dim=2)
        energy = 5 * stretch.square().sum(dim=(1, 2)) / 2
        return Prediction(energy=energy, atom_energies=energy, forces=pull.reshape(-1, 3))

    state = State.of([molecule("CH4")] * 200)
    draw_velocities(state, 300.0, seed=0, turning=False)
    frames = list(md(state, Model(springs), CSVR(0.5, 300.0, 10.0), 300, every=300))
    state = frames[-1].state
    momentum = total(state.masses[:, None] * torch.linalg.cross(state.positions, state.velocities), state.batch, 200)
    assert momentum.abs().max() < 1e-10
    # 9 degrees of freedom each: the mean of 200 scatters by sqrt(2 / 1800) = 3.3 %
    assert frames[-1].temperature.mean().item() == pytest.approx(300, rel=0.13)
    assert np.mean(2 * frames[-1].kinetic.numpy()) == pytest.approx(9 * 8.617e-5 * 300, rel=0.13)


def test_noise_sets_it_turning():
    state = State.of([molecule("CH4")])
    draw_velocities(state, 300.0, seed=0, turning=False)
    Langevin(1.0, 300.0).start(state)
    assert state.degrees_of_freedom.tolist() == [12]
