"""The loss against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from atomsml.graph import AtomicGraph
from atomsml.losses import LossWeights, loss
from atomsml.potential import Prediction

GRAPH = AtomicGraph(
    positions=torch.zeros(3, 3, dtype=torch.float64),
    numbers=torch.tensor([1, 1, 8]),
    cell=torch.zeros(2, 3, 3, dtype=torch.float64),
    pbc=torch.zeros(2, 3, dtype=torch.bool),
    batch=torch.tensor([0, 0, 1]),
    atom_data={"forces": torch.zeros(3, 3, dtype=torch.float64)},
    system_data={
        "energy": torch.tensor([1.0, 2.0], dtype=torch.float64),
        "stress": torch.stack([torch.zeros(3, 3), torch.full((3, 3), math.nan)]).double(),
    },
)


def prediction(**changes: torch.Tensor) -> Prediction:
    zeros = torch.zeros(3, 3, dtype=torch.float64)
    values = {
        "energy": GRAPH.system_data["energy"],
        "atom_energies": zeros[0],
        "forces": zeros,
        "stress": torch.zeros(2, 3, 3, dtype=torch.float64),
    }
    return Prediction(**{**values, **changes})


def test_energy_counts_per_atom() -> None:
    off = GRAPH.system_data["energy"] + torch.tensor([2.0, -3.0], dtype=torch.float64)  # 1 and 3 eV/atom
    value = loss(prediction(energy=off), GRAPH, LossWeights(energy=10.0, forces=0.0))
    assert value.item() == pytest.approx(20.0)


def test_forces_count_by_the_length_of_their_error() -> None:
    forces = torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    value = loss(prediction(forces=forces), GRAPH, LossWeights(energy=0.0, forces=1.0))
    assert value.item() == pytest.approx(2.0, abs=1e-6)


def test_structures_without_stress_are_left_out() -> None:
    stress = torch.full((2, 3, 3), 0.5, dtype=torch.float64)
    value = loss(prediction(stress=stress), GRAPH, LossWeights(energy=0.0, forces=0.0, stress=2.0))
    assert value.item() == pytest.approx(1.0)


def test_gradient_is_finite_where_the_error_vanishes() -> None:
    forces = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
    loss(prediction(forces=forces), GRAPH, LossWeights()).backward()
    assert forces.grad is not None
    assert torch.isfinite(forces.grad).all()
