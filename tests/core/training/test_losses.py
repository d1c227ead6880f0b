"""The loss against numbers worked out by hand and against torch's own losses."""

from __future__ import annotations

import math

import pytest
import torch

from atomsml.graph import AtomicGraph
from atomsml.potential import Prediction
from atomsml.training.losses import LossConfig, loss, loss_sums

GRAPH = AtomicGraph(
    positions=torch.zeros(3, 3, dtype=torch.float64),
    numbers=torch.tensor([1, 1, 8]),
    cell=torch.eye(3, dtype=torch.float64).repeat(2, 1, 1),
    pbc=torch.ones(2, 3, dtype=torch.bool),
    batch=torch.tensor([0, 0, 1]),
    atom_data={"forces": torch.zeros(3, 3, dtype=torch.float64)},
    system_data={
        "energy": torch.tensor([1.0, 2.0], dtype=torch.float64),
        "stress": torch.stack([torch.zeros(3, 3), torch.full((3, 3), math.nan)]).double(),
        "weight": torch.ones(2, dtype=torch.float64),
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


def with_labels(**labels: torch.Tensor) -> AtomicGraph:
    atom_data = {"forces": labels.pop("forces", GRAPH.atom_data["forces"])}
    return GRAPH.replace(atom_data=atom_data, system_data={**GRAPH.system_data, **labels})


def test_energy_counts_per_atom() -> None:
    off = GRAPH.system_data["energy"] + torch.tensor([2.0, -3.0], dtype=torch.float64)  # 1 and 3 eV/atom
    assert loss(prediction(energy=off), GRAPH, LossConfig(10.0, 0.0, 0.0)).item() == pytest.approx(20.0)
    squares = LossConfig(10.0, 0.0, 0.0, energy_kind="mse")
    assert loss(prediction(energy=off), GRAPH, squares).item() == pytest.approx(50.0)


def test_forces_count_by_the_length_of_their_error() -> None:
    forces = torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    value = loss(prediction(forces=forces), GRAPH, LossConfig(0.0, 1.0, 0.0))
    assert value.item() == pytest.approx(2.0, abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "theirs"),
    [
        ("mae", torch.nn.functional.l1_loss),
        ("mse", torch.nn.functional.mse_loss),
        ("huber", lambda x, y: torch.nn.functional.huber_loss(x, y, delta=0.3)),
    ],
)
def test_components_count_as_in_torch(kind, theirs) -> None:
    forces = torch.randn(3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    config = LossConfig(0.0, 2.0, 0.0, forces_kind=kind, huber_delta=0.3)
    expected = 2 * theirs(forces, torch.zeros_like(forces))
    torch.testing.assert_close(loss(prediction(forces=forces), GRAPH, config), expected)


def test_structures_without_a_label_are_left_out() -> None:
    stress = torch.full((2, 3, 3), 0.5, dtype=torch.float64)
    assert loss(prediction(stress=stress), GRAPH, LossConfig(0.0, 0.0, 2.0)).item() == pytest.approx(1.0)
    energy = torch.tensor([math.nan, 2.0], dtype=torch.float64)
    off = prediction(energy=torch.tensor([7.0, 2.5], dtype=torch.float64))
    assert loss(off, with_labels(energy=energy), LossConfig(1.0, 0.0, 1.0)).item() == pytest.approx(0.5)
    forces = torch.tensor([[math.nan] * 3, [math.nan] * 3, [0.0, 0.0, 2.0]], dtype=torch.float64)
    value = loss(prediction(), with_labels(forces=forces), LossConfig(0.0, 1.0, 0.0))
    assert value.item() == pytest.approx(2.0)


def test_open_systems_have_no_stress() -> None:
    stress = torch.full((2, 3, 3), math.nan, dtype=torch.float64)  # as evaluate predicts it
    graph = GRAPH.replace(pbc=torch.zeros(2, 3, dtype=torch.bool))
    assert loss(prediction(stress=stress), graph, LossConfig(0.0, 0.0, 2.0)).item() == 0


def test_slabs_without_a_volume_have_no_stress() -> None:
    """Whatever their label says: their prediction is NaN. The other system counts."""
    cell = GRAPH.cell.clone()
    cell[1, 2] = 0
    graph = with_labels(stress=torch.zeros(2, 3, 3, dtype=torch.float64)).replace(cell=cell)
    stress = torch.stack([torch.full((3, 3), 0.5), torch.full((3, 3), math.nan)]).double()
    assert loss(prediction(stress=stress), graph, LossConfig(0.0, 0.0, 2.0)).item() == pytest.approx(1.0)


def test_weights_are_those_of_the_structure() -> None:
    """Of its energy and of each of its atoms; means are over labels, not over weights."""
    graph = with_labels(weight=torch.tensor([2.0, 5.0], dtype=torch.float64))
    energy = GRAPH.system_data["energy"] + torch.tensor([2.0, 3.0], dtype=torch.float64)  # 1 and 3 eV/atom
    assert loss(prediction(energy=energy), graph, LossConfig(1.0, 0.0, 0.0)).item() == pytest.approx((2 + 15) / 2)
    forces = torch.diag(torch.tensor([1.0, 3.0, 7.0], dtype=torch.float64))
    value = loss(prediction(forces=forces), graph, LossConfig(0.0, 1.0, 0.0)).item()
    assert value == pytest.approx((2 * 1 + 2 * 3 + 5 * 7) / 3)


def test_a_prediction_that_is_nan_is_noticed() -> None:
    energy = torch.tensor([math.nan, 2.0], dtype=torch.float64)
    assert math.isnan(loss(prediction(energy=energy), GRAPH, LossConfig()).item())


def test_a_batch_without_any_label_costs_nothing_and_has_a_gradient() -> None:
    energy = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    unlabelled = with_labels(energy=torch.full((2,), math.nan, dtype=torch.float64))
    value = loss(prediction(energy=energy), unlabelled, LossConfig(1.0, 0.0, 0.0))
    value.backward()
    assert value.item() == 0
    assert energy.grad is not None
    assert energy.grad.tolist() == [0, 0]


def test_weights_of_structures_multiply_their_errors() -> None:
    off = GRAPH.system_data["energy"] + torch.tensor([2.0, 3.0], dtype=torch.float64)  # 1 and 3 eV/atom
    weighted = with_labels(weight=torch.tensor([10.0, 0.5], dtype=torch.float64))
    value = loss(prediction(energy=off), weighted, LossConfig(1.0, 0.0, 0.0))
    assert value.item() == pytest.approx((10 * 1 + 0.5 * 3) / 2)


def test_sums_of_the_parts_add_up_to_the_whole() -> None:
    rng = torch.Generator().manual_seed(1)
    forces = torch.randn(3, 3, generator=rng, dtype=torch.float64)
    stress = torch.randn(2, 3, 3, generator=rng, dtype=torch.float64)
    both = prediction(forces=forces, stress=stress)
    sums, counts = loss_sums(both, GRAPH, LossConfig())
    parts = []
    for graph, atoms, system in zip(
        GRAPH.to_list(), (slice(0, 2), slice(2, 3)), (slice(0, 1), slice(1, 2)), strict=True
    ):
        one = Prediction(both.energy[system], both.atom_energies[atoms], forces[atoms], stress[system])
        parts.append(loss_sums(one, graph, LossConfig()))
    torch.testing.assert_close(sum(p[0] for p in parts), sums)
    assert counts.tolist() == [2, 3, 9, 0, 0, 0]
    assert sum(p[1] for p in parts).tolist() == [2, 3, 9, 0, 0, 0]


def test_gradient_is_finite_where_the_error_vanishes() -> None:
    forces = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
    loss(prediction(forces=forces), GRAPH, LossConfig()).backward()
    assert forces.grad is not None
    assert torch.isfinite(forces.grad).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"energy": -1.0}, "loss.energy is a weight and must not be negative"),
        ({"huber_delta": 0.0}, "loss.huber_delta must be positive"),
    ],
)
def test_impossible_losses_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LossConfig(**values)
