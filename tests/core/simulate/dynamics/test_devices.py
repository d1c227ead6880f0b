"""Steps on devices that are not here: the same numbers, and nothing that waits for them."""

import ase
import numpy as np
import pytest

from atomsml.simulate.dynamics import INTEGRATORS
from atomsml.simulate.dynamics.langevin import Langevin
from atomsml.simulate.dynamics.replica_exchange import ReplicaExchange
from atomsml.simulate.md import md
from atomsml.simulate.model import Model
from atomsml.simulate.stability import Watch
from atomsml.simulate.state import State
from atomsml.simulate.velocities import draw_velocities
from atomsml.testing import pretended_device
from atomsml.testing.model_potentials import HarmonicWell

FIXED_CELLS = [name for name, each in INTEGRATORS.items() if each.ensemble != "npt"]


def integrator(name: str):
    temperatures = [300.0, 400.0, 500.0]
    if name == "ladder":
        return ReplicaExchange(Langevin(1.0, temperatures), interval=2)
    return INTEGRATORS[name].kind(1.0, *([] if name == "nve" else [temperatures, 50.0]))


def wells() -> State:
    rng = np.random.default_rng(0)
    state = State.of([ase.Atoms("CO", positions=rng.normal(size=(2, 3)) * 0.1) for _ in range(3)])
    state.group[:] = 0
    return state


@pytest.mark.parametrize("name", [*FIXED_CELLS, "ladder"])
def test_a_gpu_gives_the_same_numbers(name):
    *_, here = md(wells(), Model(HarmonicWell(5.0)), integrator(name), 10, temperature=300.0)
    with pretended_device("cuda") as device:
        *_, there = md(wells().to(device), Model(HarmonicWell(5.0)), integrator(name), 10, temperature=300.0)
        positions, conserved = there.state.positions.cpu(), there.conserved.cpu()
    assert (positions - here.state.positions).abs().max() < 1e-13
    assert (conserved - here.conserved).abs().max() < 1e-13


@pytest.mark.parametrize("name", [*FIXED_CELLS, "ladder"])
def test_no_step_waits_for_the_device(name):
    """On torch's device without numbers, where whatever asks for one is an error."""
    state, model, method = wells(), Model(HarmonicWell(5.0)), integrator(name)
    draw_velocities(state, 300.0, 0)
    model(state)
    memory, watch = method.start(state).to("meta"), Watch.of(state).to("meta")
    state = state.to("meta")
    before = state.positions
    method.step(state, memory, model)
    watch.check(state, before)
    method.conserved(state, memory)
    assert state.positions.device.type == "meta"
    with pytest.raises((RuntimeError, NotImplementedError)):
        watch.lost(state)
