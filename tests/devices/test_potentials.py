"""Every architecture on every device: energies, forces and stress; where potentials are trained, gradients too."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from atomsml.graph import AtomicGraph
from atomsml.potential import Potential, Prediction, evaluate
from atomsml.potentials import POTENTIALS
from atomsml.potentials.nequip import NEQUIP as AS_IN_NEQUIP

MACE = {"channels": 4, "hidden_lmax": 1, "lmax": 2, "correlation": 2, "num_bessel": 4, "radial_mlp": (8,)}
ESCN = {"channels": 4, "hidden_channels": 4, "lmax": 2, "mmax": 1, "num_bessel": 4, "radial_mlp": (8,)}
NEQUIP = {"channels": (6, 4, 2), "num_layers": 2, "radial_mlp": (8,)}
EQUIFORMER = {"channels": 4, "lmax": 2, "mmax": 1, "num_layers": 2, "num_heads": 2, "radial_mlp": (8,)}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "mace": ("mace", MACE),
    "mace of materials": (
        "mace",
        {**MACE, "zbl": True, "distance_transform": "agnesi", "density_normalization": True, "correlation": 3},
    ),
    "mace on the grid": ("mace", {**MACE, "product": "gaunt", "correlation": 3}),
    "mace with scalars between layers": ("mace", {**MACE, "hidden_lmax": 0}),
    "escn": ("escn", ESCN),
    "escn with direct forces": ("escn", {**ESCN, "direct_forces": True, "parity": False}),
    "escn as published": (
        "escn",
        {
            **{"channels": 4, "hidden_channels": 4, "lmax": 2, "mmax": 1, "radial_mlp": (8,), "readout_channels": 16},
            **{"paper": True, "direct_forces": True, "num_gaussians": 20, "num_sphere_points": 32},
        },
    ),
    "nequip": ("nequip", NEQUIP),
    "nequip as SevenNet": ("nequip", {**NEQUIP, "self_connection": "linear", "num_splines": 4, "inversion": False}),
    "nequip as published": (
        "nequip",
        {**NEQUIP, **AS_IN_NEQUIP, "num_layers": 4, "parity": True, "zbl": True, "element_scales": True},
    ),
    "facet": ("facet", {"channels": (6, 4, 2), "grid_channels": 4, "num_splines": 4}),
    "facet as published": (
        "facet",
        {"channels": (6, 4, 2), "pointwise": "mlp", "embedding_channels": 4, "grid": (8, 7), "pointwise_channels": 4},
    ),
    "egnn": ("egnn", {"channels": 8, "num_layers": 2}),
    "egnn as published": ("egnn", {"channels": 8, "num_layers": 2, "paper": True, "readout_channels": 64}),
    "painn": ("painn", {"channels": 8, "num_layers": 2}),
    "equiformer_v2": ("equiformer_v2", {**EQUIFORMER, "attention_channels": 6, "ffn_channels": 5}),
    "equiformer_v2 as published": ("equiformer_v2", {**EQUIFORMER, "paper": True, "num_gaussians": 10}),
}


def test_no_architecture_is_left_out() -> None:
    assert {architecture for architecture, _ in MODELS.values()} == set(POTENTIALS)


def make(name: str) -> Potential:
    architecture, options = MODELS[name]
    model = POTENTIALS[architecture]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = model(model.Config(**{"elements": (1, 6, 8), "cutoff": 4.0, "readout_channels": 4, **options}))
    return made.cast(torch.float64)


def assert_close(found: Prediction, expected: Prediction, rounding: float) -> None:
    """Sums of some thousand terms, in another order where a device has kernels of its own."""
    for name in ("energy", "atom_energies", "forces", "stress"):
        one, other = getattr(found, name).cpu(), getattr(expected, name)
        size = float(other.nan_to_num().abs().max())
        torch.testing.assert_close(one, other, rtol=0, atol=1e3 * rounding * size, equal_nan=True)


@pytest.mark.parametrize("name", MODELS)
def test_evaluate(name: str, device: torch.device, dtype: torch.dtype, graph: AtomicGraph) -> None:
    potential, here = make(name).to(dtype), graph.to(dtype=dtype)
    there = copy.deepcopy(potential).to(device)
    found = evaluate(there, here.to(device), stress=True)
    assert found.forces is not None
    assert found.forces.device == device
    assert_close(found, evaluate(potential, here, stress=True), torch.finfo(dtype).eps)
    listed = here.to(device).with_neighbors(potential.cutoff + 0.5)
    assert_close(there.predictor()(listed, stress=True), evaluate(potential, here, stress=True), torch.finfo(dtype).eps)


@pytest.mark.parametrize("name", MODELS)
def test_gradients_of_a_loss(name: str, cuda: torch.device, graph: AtomicGraph) -> None:
    """Of energies, forces and stress, by every weight."""

    def gradients(potential: Potential, graph: AtomicGraph) -> list[torch.Tensor]:
        found = evaluate(potential, graph, stress=True, create_graph=True)
        assert found.forces is not None
        assert found.stress is not None
        loss = found.energy.sum() + found.forces.square().sum() + found.stress[1].square().sum()
        return list(torch.autograd.grad(loss, list(potential.parameters()), materialize_grads=True))

    potential = make(name)
    there = gradients(copy.deepcopy(potential).to(cuda), graph.to(cuda))
    for one, other in zip(there, gradients(potential, graph), strict=True):
        assert one.device == cuda
        torch.testing.assert_close(one.cpu(), other, rtol=0, atol=1e-11 * max(1.0, float(other.abs().max())))
