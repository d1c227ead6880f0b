"""The engine on a GPU: the same numbers, and no step waits for it but for one answer of the neighbour list."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from ase.build import bulk
from torch.utils._python_dispatch import TorchDispatchMode

from atomsml.neighbors.verlet import Answer
from atomsml.simulate.dynamics import INTEGRATORS
from atomsml.simulate.dynamics.nve import NVE
from atomsml.simulate.model import Model
from atomsml.simulate.optimizers import OPTIMIZERS
from atomsml.simulate.optimizers.running import Method
from atomsml.simulate.relax import RelaxSettings
from atomsml.simulate.state import State
from atomsml.testing.devices import PretendedTensor
from atomsml.testing.model_potentials import LennardJones

aten = torch.ops.aten
WAITS = {
    aten._local_scalar_dense.default,
    aten.nonzero.default,
    aten.masked_select.default,
    aten._unique2.default,
    aten.repeat_interleave.Tensor,
    aten.equal.default,
}


class NoWaits(TorchDispatchMode):
    """An operation whose outcome the host must know is an error, as is a copy to the host that is waited for."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        there = any(isinstance(x, PretendedTensor) or getattr(x, "is_cuda", False) for x in args)
        to_host = func is aten._to_copy.default and kwargs.get("device") == torch.device("cpu")
        masks = func is aten.index.Tensor and any(x is not None and x.dtype == torch.bool for x in args[1])
        if there and (func in WAITS or masks or (to_host and not kwargs.get("non_blocking"))):
            raise AssertionError(f"{func} waits for the device")
        return func(*args, **kwargs)


def crystals() -> State:
    structures = [bulk("Ar", cubic=True, a=5.4) * (1, 1, 1 + i % 2) for i in range(3)]
    for seed, atoms in enumerate(structures):
        atoms.rattle(0.05, seed=seed)
        atoms.set_velocities(0.02 * np.random.default_rng(seed).normal(size=(len(atoms), 3)))
    return State.of(structures)


def integrator(name: str) -> Any:
    kind = INTEGRATORS[name].kind
    if INTEGRATORS[name].ensemble == "nve":
        return kind(2.0)
    return kind(2.0, 40.0) if INTEGRATORS[name].ensemble == "nvt" else kind(2.0, 40.0, 0.0)


@pytest.mark.parametrize("name", INTEGRATORS)
def test_no_step_of_dynamics_waits_for_the_device(name: str, cuda: torch.device) -> None:
    potential, method, state = LennardJones(), integrator(name), crystals().to(cuda)
    model = Model(potential, potential.cutoff)
    model(state, stress=method.needs_stress)
    memory = method.start(state)
    method.step(state, memory, model)  # what is made once may wait
    with NoWaits():
        for _ in range(3):
            method.step(state, memory, model)
        method.conserved(state, memory)
    assert model.neighbors is not None
    assert model.neighbors.rebuilds == 1


@pytest.mark.parametrize("cell", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_no_step_of_a_relaxation_waits_for_the_device(name: str, cell: bool, cuda: torch.device) -> None:
    settings = RelaxSettings(optimizer=name, cell=cell)
    method = Method(settings.coordinates(), OPTIMIZERS[name].make(), settings.fmax, settings.steps)
    potential, state = LennardJones(), crystals().to(cuda)
    model = Model(potential, potential.cutoff, skin=3.0)  # a new list would wait
    running = method.start(state)
    model(state, stress=True)
    method.judge(running)
    method.step(running)
    model(state, stress=True)
    with NoWaits():
        for _ in range(3):
            method.judge(running)
            method.step(running)
            model(state, stress=True)


def test_a_run_with_new_lists_is_that_of_the_cpu(cuda: torch.device) -> None:
    """Lists that no longer hold are found out after what was computed with them, which must not count."""
    potential, found = LennardJones(), []
    for where in (torch.device("cpu"), cuda):
        state, model, method = crystals().to(where), Model(potential, potential.cutoff, skin=0.1), NVE(10.0)
        model(state)
        memory = method.start(state)
        for _ in range(40):
            method.step(state, memory, model)
        found.append((state.positions.cpu(), state.energy.cpu(), model.neighbors.rebuilds if model.neighbors else 0))
    (here, energy, _), (there, energy_there, rebuilds) = found
    assert 3 < rebuilds < 41
    assert torch.allclose(here, there, rtol=0, atol=1e-10)
    assert torch.allclose(energy, energy_there, rtol=0, atol=1e-10)


def test_an_answer_is_what_was_asked(cuda: torch.device) -> None:
    for value in (True, False):
        assert Answer(torch.tensor(value, device=cuda))() is value
