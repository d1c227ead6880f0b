"""Error tables against numpy on concatenated arrays, and the relative force error against mace-torch's."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from atomsml.graph import AtomicGraph
from atomsml.potential import Prediction
from atomsml.training.evaluation.metrics import Collected, ErrorTable, format_table, measure, rmse_without_shifts

TYPES = ("bulk", "slab", "molecule")
ELEMENTS = (1, 6, 8)

Batch = tuple[AtomicGraph, tuple[str, ...]]


def labelled(rng: np.random.Generator, config_type: str) -> AtomicGraph:
    """A random system; about a third of the energies, of the forces and of the stresses are missing."""
    atoms = int(rng.integers(1, 6))
    periodic = config_type != "molecule"

    def some(values: NDArray[np.float64]) -> torch.Tensor:
        return torch.tensor(values if rng.random() > 0.33 else np.full_like(values, np.nan))

    return AtomicGraph(
        positions=torch.tensor(rng.normal(size=(atoms, 3))),
        numbers=torch.tensor(rng.choice(ELEMENTS, size=atoms)),
        cell=torch.eye(3, dtype=torch.float64)[None] * 4 * periodic,
        pbc=torch.full((1, 3), periodic),
        batch=torch.zeros(atoms, dtype=torch.int64),
        atom_data={"forces": some(rng.normal(size=(atoms, 3)))},
        system_data={
            "energy": some(rng.normal(scale=100, size=1)),
            # nothing can be compared with the stress of an open system, though files have it
            "stress": some(rng.normal(scale=0.01, size=(1, 3, 3))),
        },
    )


@pytest.fixture
def batches() -> list[Batch]:
    """Four batches of five structures of three config types."""
    rng = np.random.default_rng(0)
    types = [tuple(rng.choice(TYPES, size=5).tolist()) for _ in range(4)]
    return [(AtomicGraph.from_list([labelled(rng, name) for name in names]), names) for names in types]


def predict(graph: AtomicGraph) -> Prediction:
    """Some function of the atoms, in float32 but for the energy; NaN is the stress of an open system."""
    forces = torch.sin(graph.positions * graph.numbers[:, None])
    atom_energies = graph.positions.square().sum(dim=1)
    energy = torch.zeros(graph.num_systems, dtype=torch.float64).index_add(0, graph.batch, atom_energies)
    stress = graph.cell * 0.001 + torch.where(graph.pbc.any(dim=1), 0.0, torch.nan)[:, None, None]
    return Prediction(energy, atom_energies, forces.float(), stress.float())


def expected(batches: Sequence[Batch], keep: Callable[[str], bool]) -> dict[str, float]:
    """The same errors by numpy, from one structure after another."""
    energy, forces, labels, stress = [], [], [], []
    structures = 0
    for graph, types in batches:
        for one, config_type in zip(graph.to_list(), types, strict=True):
            if not keep(config_type):
                continue
            structures += 1
            prediction = predict(one)
            energy.append((prediction.energy - one.system_data["energy"]).numpy() / one.num_atoms)
            forces.append((prediction.forces.double() - one.atom_data["forces"]).numpy().ravel())
            labels.append(one.atom_data["forces"].numpy().ravel())
            if config_type != "molecule":
                stress.append((prediction.stress.double() - one.system_data["stress"]).numpy().ravel())
    table: dict[str, float] = {"structures": structures}
    for name, parts in (("energy", energy), ("forces", forces), ("stress", stress)):
        error = np.concatenate(parts or [np.zeros(0)])
        error = error[~np.isnan(error)]
        count = {"energy": "energies", "forces": "force_components", "stress": "stresses"}[name]
        table[count] = len(error) // (9 if name == "stress" else 1)
        if len(error):
            table[f"{name}_mae"] = 1000 * np.mean(np.abs(error))
            table[f"{name}_rmse"] = 1000 * np.sqrt(np.mean(error**2))
    table["forces_relative"] = table["forces_rmse"] / (10 * np.sqrt(np.nanmean(np.concatenate(labels) ** 2)))
    return table


def test_table_is_numpy_on_concatenated_arrays(batches: list[Batch]) -> None:
    table = measure(predict, batches, TYPES, ELEMENTS).table()
    assert list(table) == [*TYPES, "all"]
    assert table["all"] == pytest.approx(expected(batches, lambda _: True), rel=1e-12)
    for name in TYPES:
        assert table[name] == pytest.approx(expected(batches, name.__eq__), rel=1e-12)
    assert "stress_mae" not in table["molecule"]  # no volume


def test_elements_are_numpy_on_concatenated_arrays(batches: list[Batch]) -> None:
    table = measure(predict, batches, TYPES, (*ELEMENTS, 26)).by_element()
    assert list(table) == ["H", "C", "O"]  # there is no iron
    numbers = np.concatenate([graph.numbers.numpy() for graph, _ in batches])
    errors = np.concatenate([(predict(g).forces.double() - g.atom_data["forces"]).numpy() for g, _ in batches])
    labels = np.concatenate([g.atom_data["forces"].numpy() for g, _ in batches])
    for symbol, number in (("H", 1), ("C", 6), ("O", 8)):
        mine, label = errors[numbers == number], labels[numbers == number]
        rmse = np.sqrt(np.nanmean(mine**2))
        assert table[symbol] == pytest.approx(
            {
                "force_components": np.sum(~np.isnan(mine)),
                "forces_mae": 1000 * np.nanmean(np.abs(mine)),
                "forces_rmse": 1000 * rmse,
                "forces_relative": 100 * rmse / np.sqrt(np.nanmean(label**2)),
            },
            rel=1e-12,
        )


def test_relative_force_error_is_that_of_mace() -> None:
    label = torch.tensor([[1.0, -2.0, 0.5], [0.25, 0.0, -3.0]], dtype=torch.float64)
    predicted = torch.tensor([[1.1, -1.9, 0.4], [0.0, 0.3, -2.5]], dtype=torch.float64)
    graph = AtomicGraph(
        positions=torch.zeros(2, 3, dtype=torch.float64),
        numbers=torch.tensor([1, 1]),
        cell=torch.zeros(1, 3, 3),
        pbc=torch.zeros(1, 3, dtype=torch.bool),
        batch=torch.tensor([0, 0]),
        atom_data={"forces": label},
    )
    errors = ErrorTable(["only"], [1])
    errors.add(Prediction(torch.zeros(1), torch.zeros(2), predicted), graph, ["only"])
    # mace-torch 0.3.16, mace.tools.utils: compute_mae, compute_rmse (of meV/A) and compute_rel_rmse of these arrays;
    # its relative error has 1e-9 eV/A added below the fraction bar
    mace = {"forces_mae": 225.0, "forces_rmse": 268.48339489311684, "forces_relative": 17.383423302739573}
    counts = {"structures": 1, "energies": 0, "force_components": 6, "stresses": 0}
    assert errors.table() == {"all": pytest.approx({**counts, **mace}, rel=1e-8)}


def test_processes_add_up(batches: list[Batch]) -> None:
    whole = measure(predict, batches, TYPES, ELEMENTS)
    parts = [measure(predict, batches[start::2], TYPES, ELEMENTS) for start in (0, 1)]
    reduced = measure(predict, batches[::2], TYPES, ELEMENTS)
    reduced.sums().add_(parts[1].sums())  # what all_reduce does
    parts[0].merge(parts[1])
    assert whole.sums().dtype == torch.float64
    for summed in (parts[0], reduced):
        torch.testing.assert_close(summed.sums(), whole.sums(), rtol=1e-14, atol=0)
        assert summed.table()["slab"] == pytest.approx(whole.table()["slab"], rel=1e-13)
        assert summed.by_element()["C"] == pytest.approx(whole.by_element()["C"], rel=1e-13)
    with pytest.raises(ValueError, match="same config types"):
        whole.merge(ErrorTable(TYPES[::-1], ELEMENTS))


def test_prediction_that_is_nan_is_not_a_missing_label(batches: list[Batch]) -> None:
    def broken(graph: AtomicGraph) -> Prediction:
        right = predict(graph)
        return Prediction(right.energy * torch.nan, right.atom_energies, right.forces, right.stress)

    table = measure(broken, batches, TYPES, ELEMENTS).table()
    assert np.isnan(table["all"]["energy_mae"])
    assert table["all"]["forces_mae"] == measure(predict, batches, TYPES, ELEMENTS).table()["all"]["forces_mae"]


def test_what_was_not_predicted_is_not_counted(batches: list[Batch]) -> None:
    def energy_only(graph: AtomicGraph) -> Prediction:
        return Prediction(predict(graph).energy, predict(graph).atom_energies)

    errors = measure(energy_only, batches, TYPES, ELEMENTS)
    full = measure(predict, batches, TYPES, ELEMENTS).table()["all"]
    counts = {"structures": full["structures"], "energies": full["energies"], "force_components": 0, "stresses": 0}
    assert errors.table()["all"] == {
        **counts,
        "energy_mae": full["energy_mae"],
        "energy_rmse": full["energy_rmse"],
    }
    assert errors.by_element() == {}


@pytest.mark.parametrize(
    ("types", "elements", "message"),
    [(("bulk", "slab"), ELEMENTS, "config type 'molecule'"), (TYPES, (1, 6), "element 8")],
)
def test_unexpected_batches_are_refused(
    batches: list[Batch], types: tuple[str, ...], elements: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        measure(predict, batches, types, elements)


def test_config_type_all_is_refused_beside_others() -> None:
    with pytest.raises(ValueError, match='called "all"'):
        ErrorTable(["all", "bulk"], ELEMENTS)
    assert list(ErrorTable(["all"], ELEMENTS).table()) == ["all"]


def test_text_of_a_table() -> None:
    table = {
        "": {"structures": 3, "force_components": 27, "energy_mae": 1.23456, "forces_relative": 0.5},
        "all": {"structures": 12, "force_components": 27, "energy_mae": float("nan")},
    }
    header, rows = format_table(table)
    assert header == ["config type", "structures", "E MAE meV/atom", "F RMSE %"]
    assert rows == [["(none)", "3", "1.23", "0.50"], ["all", "12", "nan", "-"]]
    assert format_table({"H": {"force_components": 6, "forces_mae": 2.0}}, "element") == (
        ["element", "force components", "F MAE meV/A"],
        [["H", "6", "2.00"]],
    )


def test_collected_arrays_give_the_same_errors(batches: list[Batch]) -> None:
    parts = [Collected.from_batch(predict(graph), graph, types) for graph, types in batches]
    collected = Collected.concatenate(parts)
    table = measure(predict, batches, TYPES, ELEMENTS).table()
    slab = collected.config_types == "slab"
    energy = (collected.energy_predicted - collected.energy_label)[slab]
    forces = (collected.forces_predicted - collected.forces_label)[np.repeat(slab, collected.num_atoms)]
    stress = (collected.stress_predicted - collected.stress_label)[slab]
    assert 1000 * np.nanmean(np.abs(energy)) == pytest.approx(table["slab"]["energy_mae"], rel=1e-12)
    assert 1000 * np.nanmean(np.abs(forces)) == pytest.approx(table["slab"]["forces_mae"], rel=1e-12)
    assert 1000 * np.nanmean(np.abs(stress)) == pytest.approx(table["slab"]["stress_mae"], rel=1e-12)
    np.testing.assert_array_equal(collected.numbers, np.concatenate([graph.numbers.numpy() for graph, _ in batches]))


def test_collected_labels_that_are_absent_are_nan(batches: list[Batch]) -> None:
    graph, types = batches[0]
    bare = graph.replace(atom_data={}, system_data={})
    collected = Collected.from_batch(predict(bare), bare, types)
    np.testing.assert_array_equal(collected.energy_label, np.full(5, np.nan))
    np.testing.assert_array_equal(collected.forces_label, np.full((graph.num_atoms, 3), np.nan))
    assert np.isfinite(collected.energy_predicted).all()


def test_rmse_without_shifts_of_the_references() -> None:
    rng = np.random.default_rng(0)
    composition = rng.integers(0, 5, size=(400, 3))
    composition[:, 0] += 1
    noise = rng.normal(scale=0.01, size=400)
    shift = composition @ np.array([-13.0, -1000.0, -2000.0]) / composition.sum(axis=1)
    # chi-squared of 397 degrees of freedom: its root has a relative standard deviation of 3.5 %
    assert rmse_without_shifts(shift + noise, composition) == pytest.approx(0.01, rel=0.15)
    labelled = np.where(np.arange(400) < 200, shift + noise, np.nan)
    assert rmse_without_shifts(labelled, composition) == rmse_without_shifts((shift + noise)[:200], composition[:200])


def test_rmse_without_shifts_of_one_composition_is_the_standard_deviation() -> None:
    errors = np.random.default_rng(0).normal(5.0, 0.1, size=50)
    composition = np.tile([9, 8, 4], (50, 1))
    assert rmse_without_shifts(errors, composition) == pytest.approx(np.std(errors, ddof=1), rel=1e-12)


def test_rmse_without_shifts_of_few_structures_is_unknown() -> None:
    composition = np.array([[1, 0], [0, 1], [1, 1], [1, 2], [1, 3]])
    assert rmse_without_shifts(np.arange(5.0), composition) is None
    assert rmse_without_shifts(np.full(5, np.nan), composition) is None
