"""The loop of molecular dynamics: what frames say, and what comes and goes."""

import ase
import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from ase.constraints import FixAtoms, FixCartesian

from atomsml.simulate.dynamics.langevin import Langevin
from atomsml.simulate.dynamics.nve import NVE
from atomsml.simulate.md import md
from atomsml.simulate.model import Model
from atomsml.simulate.state import State
from atomsml.simulate.velocities import draw_velocities
from atomsml.testing.model_potentials import LennardJones
from atomsml.units import FS, KB


def argon(repeats: int = 2) -> ase.Atoms:
    return bulk("Ar", "fcc", 5.3, cubic=True) * (2, 2, repeats)


def model() -> Model:
    return Model(LennardJones(), 8.5)


@pytest.mark.parametrize(
    ("constraint", "expected"),
    [
        (None, 15),
        (FixAtoms([0]), 15),
        (FixAtoms([0, 1, 2, 3]), 6),
        (FixCartesian(range(6), [False, False, True]), 10),  # momentum along x and y stays what it is
        (FixCartesian([2], [False, True, False]), 15),  # 17 motions, of which two are those of the centre of mass
    ],
)
def test_degrees_of_freedom_are_those_in_which_something_moves(constraint, expected):
    """The rank of the covariance of velocities that are drawn."""
    atoms = molecule("CH3OH")
    atoms.set_constraint(constraint)
    state = State.of([atoms])
    assert state.degrees_of_freedom.tolist() == [expected]
    drawn = []
    for seed in range(40):
        draw_velocities(state, 300.0, seed)
        drawn.append(state.velocities.flatten())
    assert torch.linalg.matrix_rank(torch.stack(drawn)) == expected


def test_start_velocities_are_those_of_the_temperature():
    state = State.of([molecule("CH3OH")] * 2000)
    temperatures = [200.0, 400.0] * 1000
    draw_velocities(state, temperatures, seed=0)
    energy = (0.5 * state.masses * state.velocities.square().sum(dim=1)).reshape(2000, 6).sum(dim=1)
    reduced = energy / (KB * torch.tensor(temperatures))
    # a gamma law of mean and variance 15 / 2
    assert reduced.mean().item() == pytest.approx(7.5, abs=4 * (7.5 / 2000) ** 0.5)
    assert (reduced[::2].mean() - reduced[1::2].mean()).item() == pytest.approx(0, abs=4 * (7.5 / 500) ** 0.5)
    momentum = (state.masses[:, None] * state.velocities).reshape(2000, 6, 3).sum(dim=1)
    assert momentum.abs().max() < 1e-12


def test_pressure_and_temperature_are_those_of_ase():
    atoms = argon(3)
    (frame,) = md([atoms], model(), NVE(1.0), 0, temperature=120.0, stress=True)
    (moving,) = frame.state.write_to([atoms])
    assert frame.temperature.item() == pytest.approx(moving.get_temperature() * 48 / 47)  # ASE counts the rest as well
    without, motion = moving.get_stress()[:3].sum(), moving.get_kinetic_stress()[:3].sum()
    assert frame.pressure.item() == pytest.approx(-(without + motion * 48 / 47) / 3)
    assert frame.volume.item() == pytest.approx(atoms.get_volume())


def test_frames_come_every_few_steps():
    frames = md([argon()], model(), NVE(2.0), 7, every=3)
    assert [(frame.step, frame.state.step.tolist()) for frame in frames] == [(0, [0]), (3, [3]), (6, [6])]


def test_a_run_goes_on_where_it_ended():
    integrator = Langevin(2.0, 80.0, 50.0, seed=2)
    *_, whole = md([argon()], model(), integrator, 20, temperature=80.0)
    *_, half = md([argon()], model(), integrator, 10, temperature=80.0)
    *_, rest = md(half.state, model(), integrator, 10, memory=half.memory)
    assert rest.step == 20
    # another neighbour list, in another order
    assert (rest.state.positions - whole.state.positions).abs().max() < 1e-10
    assert rest.conserved.item() == pytest.approx(whole.conserved.item(), abs=1e-10)


def test_a_system_moves_as_it_does_alone():
    systems = [argon(3), argon(), argon(2)]
    systems[1].rattle(0.1, seed=1)
    integrator = Langevin(2.0, [80.0, 100.0, 20.0], 50.0, seed=2)
    *_, together = md(systems, model(), integrator, 20, temperature=80.0)
    start = State.of(systems)
    draw_velocities(start, 80.0, 0)
    *_, alone = md(start.systems(torch.tensor([1])), model(), integrator, 20)
    mine = together.state.batch == 1
    assert (together.state.positions[mine] - alone.state.positions).abs().max() < 1e-12


def test_the_centre_of_mass_rests():
    *_, frame = md([argon()], model(), Langevin(2.0, 80.0, 10.0), 50, temperature=80.0)
    assert (frame.state.masses @ frame.state.velocities).abs().max() < 1e-11
    shift = frame.state.positions.numpy().mean(axis=0) - argon().positions.mean(axis=0)
    assert np.abs(shift).max() < 1e-12


def test_what_explodes_leaves_and_the_others_go_on():
    near, on_top = argon(), argon()
    near.positions[0] = near.positions[1] + [0.9, 0, 0]
    on_top.positions[0] = on_top.positions[1]
    start = State.of([near, argon(), on_top])
    draw_velocities(start, 50.0, 0)
    *_, alone = md(start.systems(torch.tensor([1])), model(), NVE(1.0), 20)
    frames = list(md(start, model(), NVE(1.0), 20, every=10))
    assert [frame.state.index.tolist() for frame in frames] == [[0, 1], [1], [1]]
    (first,), (second,) = frames[0].lost, frames[1].lost
    assert (first.index, first.step) == (2, 0)
    assert first.reason.startswith("energy or forces are not finite at step 0")
    assert (second.index, second.step) == (0, 1)
    assert second.reason.startswith(("atom 0 moved by", "atom 1 moved by"))
    assert (frames[-1].state.positions - alone.state.positions).abs().max() < 1e-12


def test_no_atom_moves_farther_than_one_angstrom_in_a_step():
    """Of two atoms without forces, whose steps are as long as the time step."""

    atoms = ase.Atoms("Ar2", [[0, 0, 0], [50, 0, 0]])
    first = next(md([atoms], model(), NVE(1.0), 0, temperature=300.0))
    per_fs = first.state.velocities.norm(dim=1).max().item() * FS
    *_, frame = md([atoms], model(), NVE(0.99 / per_fs), 1, temperature=300.0)
    assert not frame.lost
    assert np.abs(frame.state.positions.numpy() - atoms.positions).max() > 0.5
    *_, frame = md([atoms], model(), NVE(1.01 / per_fs), 1, temperature=300.0)
    (lost,) = frame.lost
    assert lost.reason.startswith("atom ")
    assert "moved by 1.0 A in step 1; try a smaller time step" in lost.reason


def test_constraints_are_exact():
    atoms = argon()
    atoms.set_constraint([FixAtoms([3]), FixCartesian([5], [True, False, False])])
    *_, frame = md([atoms], model(), Langevin(2.0, 80.0, 50.0), 20, temperature=80.0)
    moved = frame.state.positions.numpy() - atoms.positions
    assert (moved[3] == 0).all()
    assert moved[5][0] == 0
    assert (np.delete(moved, 3, axis=0)[:, 1:] != 0).all()


def test_the_run_ends_when_nothing_is_left():
    near = argon()
    near.positions[0] = near.positions[1] + [0.9, 0, 0]
    frames = list(md([near], model(), NVE(1.0), 1000, every=5, temperature=50.0))
    assert [len(frame.lost) for frame in frames] == [0, 1]
    assert frames[-1].state.num_systems == 0


def test_systems_in_which_nothing_moves_leave_at_once():
    held = molecule("H2O")
    held.set_constraint(FixAtoms([0, 1, 2]))
    frame = next(md([held, argon(), ase.Atoms("Ar")], model(), NVE(1.0), 1, temperature=50.0))
    assert frame.state.index.tolist() == [1]
    assert [each.reason[:22] for each in frame.lost] == ["constraints hold all a", "a single atom cannot m"]
    with pytest.raises(ValueError, match="a single atom cannot move"):
        next(md([ase.Atoms("Ar")], model(), NVE(1.0), 1))
