"""Steps on devices that are not here: the same numbers, and nothing that waits for them."""

from dataclasses import replace

import ase
import numpy as np
import pytest
import torch

from atomsml.simulate.dynamics import CELL_MOTIONS, INTEGRATORS
from atomsml.simulate.dynamics.langevin import Langevin
from atomsml.simulate.dynamics.replica_exchange import ReplicaExchange
from atomsml.simulate.md import md
from atomsml.simulate.model import Model
from atomsml.simulate.stability import Watch
from atomsml.simulate.state import State
from atomsml.simulate.velocities import draw_velocities
from atomsml.testing import pretended_device
from atomsml.testing.model_potentials import HarmonicWell, IdealGas

FIXED_CELLS = [name for name, each in INTEGRATORS.items() if each.ensemble != "npt"]
BAROSTATS = [f"{name} {cell}" for name, each in INTEGRATORS.items() if each.ensemble == "npt" for cell in CELL_MOTIONS]


def integrator(name: str):
    temperatures = [300.0, 400.0, 500.0]
    if name == "ladder":
        return ReplicaExchange(Langevin(1.0, temperatures), interval=2)
    if name in BAROSTATS:
        barostat, cell = name.split()
        return INTEGRATORS[barostat].kind(1.0, temperatures, [0.1, 0.2, 0.3], cell=cell)
    return INTEGRATORS[name].kind(1.0, *([] if name == "nve" else [temperatures, 50.0]))


def start(name: str) -> tuple[State, Model]:
    """Three molecules at a place of rest, or three gases."""
    rng = np.random.default_rng(0)
    if name in BAROSTATS:
        cells = [np.eye(3) * 6 + 0.3 * rng.normal(size=(3, 3)) for _ in range(3)]
        return State.of([ase.Atoms("CO", cell=cell, pbc=True) for cell in cells]), Model(IdealGas())
    state = State.of([ase.Atoms("CO", positions=rng.normal(size=(2, 3)) * 0.1) for _ in range(3)])
    state.group[:] = 0
    return state, Model(HarmonicWell(5.0))


@pytest.mark.parametrize("name", [*FIXED_CELLS, *BAROSTATS, "ladder"])
def test_a_gpu_gives_the_same_numbers(name):
    state, model = start(name)
    *_, here = md(state, model, integrator(name), 10, temperature=300.0)
    state, model = start(name)
    with pretended_device("cuda") as device:
        *_, there = md(state.to(device), model, integrator(name), 10, temperature=300.0)
        positions, conserved = there.state.positions.cpu(), there.conserved.cpu()
    assert (positions - here.state.positions).abs().max() < 1e-13
    assert (conserved - here.conserved).abs().max() < 1e-13


@pytest.mark.parametrize("name", [*FIXED_CELLS, *BAROSTATS, "ladder"])
def test_no_step_waits_for_the_device(name):
    """On torch's device without numbers, where whatever asks for one is an error."""
    (state, model), method = start(name), integrator(name)
    draw_velocities(state, 300.0, 0)
    model(state, stress=method.needs_stress)
    memory, watch = method.start(state).to("meta"), Watch.of(state).to("meta")
    state = state.to("meta")
    before = replace(state), replace(memory)
    method.step(state, memory, model)
    watch.check(state, memory, before)
    method.conserved(state, memory)
    assert state.positions.device.type == "meta"
    with pytest.raises((RuntimeError, NotImplementedError)):
        watch.lost(state)


class Breaking(IdealGas):
    """From the third call on nothing is known of the first of several systems; refuses cells that are not finite."""

    def __init__(self):
        self.calls = 0

    def __call__(self, graph, forces=True, stress=False):
        found, self.calls = super().__call__(graph, forces, stress), self.calls + 1
        unknown = (torch.arange(graph.num_systems, device=graph.device) < graph.num_systems - 1) & (self.calls > 2)
        energy, of_atoms = (x.masked_fill(unknown, torch.nan) for x in (found.energy, found.energy))
        assert stress
        assert bool(graph.cell.isfinite().all())
        return replace(
            found,
            energy=energy,
            forces=found.forces + 0 * of_atoms[graph.batch][:, None],
            stress=found.stress + 0 * of_atoms[:, None, None],
        )


@pytest.mark.parametrize("name", BAROSTATS)
def test_a_system_that_breaks_on_a_gpu_stands_still_until_the_next_frame(name):
    state, _ = start(name)
    both, alone = state.systems(torch.tensor([0, 1])), state.systems(torch.tensor([1]))
    with pretended_device("cuda") as device:
        *_, last = md(both.to(device), Model(Breaking()), integrator(name), 10, every=10, temperature=300.0)
        *_, own = md(alone.to(device), Model(Breaking()), integrator(name), 10, every=10, temperature=300.0)
        found, expected = last.state.positions.cpu(), own.state.positions.cpu()
    assert [(lost.index, lost.step) for lost in last.lost] == [(0, 2)]
    assert (found - expected).abs().max() < 1e-12
