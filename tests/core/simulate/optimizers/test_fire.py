"""FIRE beside ASE's, step for step: alone, and a band of images as one group."""

import ase
import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.mep import NEB
from ase.optimize import FIRE as TheirFIRE

from atomsml.simulate.optimizers.fire import FIRE
from atomsml.simulate.optimizers.vector import Vector
from atomsml.simulate.state import State


def _rows(arrays: list[np.ndarray], state: State) -> Vector:
    return Vector(torch.from_numpy(np.concatenate(arrays)), state.cell[:, :0], state.batch, state.group)


def test_the_steps_are_those_of_ase() -> None:
    """An ethane and a water side by side: each takes the steps that ASE's FIRE takes of it alone."""
    ours = [molecule("C2H6"), molecule("H2O")]
    for i, atoms in enumerate(ours):
        atoms.rattle(0.15, seed=i)
    theirs = [atoms.copy() for atoms in ours]
    for atoms in (*ours, *theirs):
        atoms.calc = EMT()
    dynamics = [TheirFIRE(atoms, logfile=None) for atoms in theirs]
    state, fire = State.of(ours), FIRE()
    variables = _rows([atoms.positions for atoms in ours], state)
    memory = fire.start(variables)
    for _ in range(60):  # long enough for a reset and for longer time steps
        energy = torch.tensor([atoms.get_potential_energy() for atoms in ours])
        variables = fire.step(memory, variables, _rows([atoms.get_forces() for atoms in ours], state), energy)
        for atoms, positions in zip(ours, variables.atoms.split([8, 3]), strict=True):
            atoms.positions = positions.numpy()
        for each in dynamics:
            each.step()
        for mine, atoms in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(mine.positions, atoms.positions, rtol=0, atol=1e-10)
    assert memory.dt.tolist() == pytest.approx([each.dt for each in dynamics])
    assert memory.dt[0] != memory.dt[1]


def _band() -> list[ase.Atoms]:
    """A hydrogen that crosses a square of copper."""
    square = ase.Atoms("Cu4H", [[0, 0, 0], [2.6, 0, 0], [0, 2.6, 0], [2.6, 2.6, 0], [1.3, 1.3, 1.1]])
    last = square.copy()
    last.positions[4, 2] = -1.1
    images = [square.copy(), *(square.copy() for _ in range(3)), last]
    for image in images:
        image.calc = EMT()
    band = NEB(images, k=0.2, method="improvedtangent")
    band.interpolate()
    for i, image in enumerate(images[1:-1]):
        image.rattle(0.05, seed=i)
    return images


def test_a_band_takes_one_step() -> None:
    """Power and length of the step are those of all images together, as ASE's FIRE has them of a NEB."""
    ours, theirs = _band(), _band()
    our_band, their_band = NEB(ours, k=0.2, method="improvedtangent"), NEB(theirs, k=0.2, method="improvedtangent")
    dynamics = TheirFIRE(their_band, logfile=None)
    state, fire = State.of(ours[1:-1]), FIRE()
    state.group = torch.zeros(3, dtype=torch.int64)
    variables = _rows([image.positions for image in ours[1:-1]], state)
    memory = fire.start(variables)
    for _ in range(40):
        variables = fire.step(memory, variables, _rows([our_band.get_forces()], state), torch.zeros(3))
        our_band.set_positions(variables.atoms.numpy())
        dynamics.step()
        np.testing.assert_allclose(our_band.get_positions(), their_band.get_positions(), rtol=0, atol=1e-10)
    assert len(set(memory.dt.tolist())) == 1
    alone = FIRE().start(variables).dt  # and a band differs from images on their own
    assert memory.dt[0] != alone[0]
