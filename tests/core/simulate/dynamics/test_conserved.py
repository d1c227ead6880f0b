"""What every integrator says that it conserves, and systems that come and go."""

import numpy as np
import pytest
import torch
from ase.build import bulk

from atomsml.simulate.dynamics import INTEGRATORS
from atomsml.simulate.md import md
from atomsml.simulate.model import Model
from atomsml.simulate.schedules import Schedule
from atomsml.simulate.state import State
from atomsml.simulate.velocities import draw_velocities
from atomsml.testing.model_potentials import LennardJones

FIXED_CELLS = [name for name, each in INTEGRATORS.items() if each.ensemble != "npt"]
CRYSTAL = bulk("Ar", "fcc", 5.3, cubic=True)


def integrator(name: str, timestep: float, temperature=60.0):
    given = (timestep,) if name == "nve" else (timestep, temperature, 200.0)
    return INTEGRATORS[name].kind(*given)


def small_argon() -> Model:
    """With atoms that see few others, which is quick."""
    return Model(LennardJones(onset=3.9, cutoff=4.8), 4.8)


def scatter(name: str, timestep: float) -> float:
    """Root mean square departure of the conserved energy from its start over 1 ps, of 16 systems, eV."""
    steps = round(1000 / timestep)
    ramp = Schedule((0, 60.0), (steps, 90.0))
    frames = md([CRYSTAL] * 16, small_argon(), integrator(name, timestep, ramp), steps, temperature=60.0)
    energies = np.array([frame.conserved.numpy() for frame in frames])
    return float(np.sqrt(np.square(energies - energies[0]).mean()))


@pytest.mark.parametrize("name", FIXED_CELLS)
def test_error_falls_with_the_square_of_the_time_step(name):
    """Also while the temperature rises.

    With noise the errors of 16 systems scatter by 1 / sqrt(2 * 16) = 18 % at most, if all of a system were one number,
    and the slope of three by .18 sqrt(2) / log(4) = .18.
    """
    timesteps = [20.0, 10.0, 5.0]
    errors = [scatter(name, timestep) for timestep in timesteps]
    slope = np.polyfit(np.log(timesteps), np.log(errors), 1)[0]
    assert slope == pytest.approx(2, abs=0.1 if name in ("nve", "nose-hoover") else 0.55)


@pytest.mark.parametrize("name", FIXED_CELLS)
def test_systems_that_come_and_go_do_not_matter(name):
    """Of three systems one leaves and a new one comes, at the other end: those that stay move as they do alone."""
    ramps = Schedule((0, [50.0, 60.0, 70.0, 80.0]), (10, [60.0, 80.0, 90.0, 20.0]))
    method, model = integrator(name, 10.0, ramps), small_argon()
    all_systems = State.of([CRYSTAL] * 4)
    draw_velocities(all_systems, 60.0, seed=1)
    alone = []
    for i in range(4):
        *_, frame = md(all_systems.systems(torch.tensor([i])), small_argon(), method, 20, 20)
        alone.append(frame)
    state, new = all_systems.systems(torch.tensor([0, 1, 2])), all_systems.systems(torch.tensor([3]))
    model(state)
    memory = method.start(state)
    for _ in range(10):
        method.step(state, memory, model)
    stay = torch.tensor([1, 2])
    rows = state.atoms_of(stay), stay
    model(new)
    state, memory = new.join([state.take(*rows)]), method.start(new).join([memory.take(*rows)])
    for _ in range(10):
        method.step(state, memory, model)
    conserved = method.conserved(state, memory)
    for place, i in enumerate([1, 2], start=1):
        mine = state.batch == place
        assert (state.positions[mine] - alone[i].state.positions).abs().max() < 1e-12
        assert conserved[place].item() == pytest.approx(alone[i].conserved.item(), abs=1e-12)
    for _ in range(10):
        method.step(state, memory, model)
    assert (state.positions[state.batch == 0] - alone[3].state.positions).abs().max() < 1e-12
    assert method.conserved(state, memory)[0].item() == pytest.approx(alone[3].conserved.item(), abs=1e-12)
