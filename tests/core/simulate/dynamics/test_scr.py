import numpy as np
import pytest
import torch
from ase.build import bulk

from atomsml.geometry import volume
from atomsml.simulate.dynamics import CELL_MOTIONS
from atomsml.simulate.dynamics.scr import SCR
from atomsml.simulate.model import Model
from atomsml.simulate.state import State
from atomsml.simulate.velocities import draw_velocities
from atomsml.testing.model_potentials import IdealGas, LennardJones
from tests.core.simulate.dynamics.volumes import (
    CASES,
    GAS,
    GAS_VOLUMES,
    KT,
    PRESSURE,
    TEMPERATURE,
    chi_square,
    systems_of,
)

GAS_BETA, CRYSTAL_BETA = 20.0, 0.3  # 1/GPa: 1 / P, and about 1 / B


@pytest.mark.parametrize(("case", "cell"), [*(("gas", cell) for cell in CELL_MOTIONS), ("crystal", "isotropic")])
def test_volumes_become_distributed_as_they_must(case, cell):
    """2,000 systems from one volume, six times the time of the barostat later."""
    rng, systems = np.random.default_rng(0), 2000
    atoms, potential, exact = CASES[case]
    volumes = np.full(systems, 60.0 if case == "gas" else atoms.get_volume())
    state, model = systems_of(atoms, volumes, rng), Model(potential)
    beta = GAS_BETA if case == "gas" else CRYSTAL_BETA
    integrator = SCR(10.0, TEMPERATURE, PRESSURE, 100, 100, cell=cell, compressibility=beta)
    model(state, stress=True)
    memory = integrator.start(state)
    for _ in range(60):
        integrator.step(state, memory, model)
    assert chi_square(volume(state.cell).numpy(), exact) > 1e-3


@pytest.mark.parametrize("cell", CELL_MOTIONS)
def test_the_mean_error_of_the_conserved_energy_falls_with_the_square_of_the_time_step(cell):
    """In equilibrium the mean of exp(-error / kT) is 1, hence the mean half the variance, which falls with dt^2."""
    systems, variances = 4000, []
    for timestep in (40.0, 20.0):
        rng = np.random.default_rng(1)
        state, model = systems_of(GAS, GAS_VOLUMES.rvs(systems, random_state=rng), rng), Model(IdealGas())
        integrator = SCR(timestep, TEMPERATURE, PRESSURE, 200, 300, cell=cell, compressibility=GAS_BETA)
        model(state, stress=True)
        memory = integrator.start(state)
        memory.start_volume = torch.full_like(memory.start_volume, GAS_VOLUMES.mean())  # that of equilibrium knows V
        start = integrator.conserved(state, memory)
        for _ in range(round(200 / timestep)):
            integrator.step(state, memory, model)
        error = (integrator.conserved(state, memory) - start).numpy() / KT
        weights = np.exp(-error)
        assert weights.mean() == pytest.approx(1, abs=4 * weights.std() / np.sqrt(systems))
        assert error.mean() == pytest.approx(error.var() / 2, abs=4 * error.std() / np.sqrt(systems) + error.var() / 10)
        variances.append(error.var())
    assert variances[0] > 1e-3
    assert variances[0] / variances[1] == pytest.approx(4, rel=0.25)


def test_each_system_is_alone_whatever_comes_and_goes():
    argon = LennardJones(onset=4.0, cutoff=5.5)
    crystal = bulk("Ar", cubic=True, a=5.4)
    states = State.of([crystal * (2, 2, 1), crystal * (2, 1, 1)])
    draw_velocities(states, TEMPERATURE, seed=1)
    integrator = SCR(5.0, TEMPERATURE, PRESSURE, 100, 300, cell="full", compressibility=0.5, seed=3)

    def started(state):
        model = Model(argon, argon.cutoff)
        model(state, stress=True)
        return state, integrator.start(state), model

    first, second = (states.systems(torch.tensor([i])) for i in range(2))
    alone, own_memory, own_model = started(second.systems(torch.tensor([0])))
    for _ in range(40):
        integrator.step(alone, own_memory, own_model)
    state, memory, model = started(second)
    for _ in range(20):
        integrator.step(state, memory, model)
    new, new_memory, _ = started(first)
    state, memory = new.join([state]), new_memory.join([memory])
    for _ in range(20):
        integrator.step(state, memory, model)
    assert state.positions[16:].numpy() == pytest.approx(alone.positions.numpy(), abs=1e-10)
    assert state.cell[1].numpy() == pytest.approx(alone.cell[0].numpy(), abs=1e-10)
    assert integrator.conserved(state, memory)[1].item() == pytest.approx(
        integrator.conserved(alone, own_memory).item(), abs=1e-10
    )
    assert (state.cell[1] - states.cell[1]).abs().max() > 0.01


def test_it_refuses_an_impossible_compressibility():
    with pytest.raises(ValueError, match="compressibility must be a positive number of 1/GPa, got 0"):
        SCR(1.0, 300.0, compressibility=0.0)
