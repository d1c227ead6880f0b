"""Datasets: one structure, batches, subsets and sums of them."""

from __future__ import annotations

import ase
import numpy as np
import pytest
import torch

from atomsml.dataset import Dataset
from atomsml.dataset.columns import Columns, atoms_of
from atomsml.graph import AtomicGraph


def assert_same(found: AtomicGraph, wanted: AtomicGraph) -> None:
    for name in ("positions", "numbers", "cell", "pbc", "batch"):
        assert torch.equal(getattr(found, name), getattr(wanted, name)), name
    for name in ("atom_data", "system_data"):
        a, b = getattr(found, name), getattr(wanted, name)
        assert a.keys() == b.keys()
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])


def test_a_structure_is_a_graph_of_one_system_in_float64(dataset: Dataset, frames: list[ase.Atoms]) -> None:
    graph = dataset[13]
    assert (graph.num_systems, graph.num_atoms, graph.dtype, graph.edge_index) == (1, 2, torch.float64, None)
    assert {name: tuple(value.shape) for name, value in graph.system_data.items()} == {
        "energy": (1,),
        "stress": (1, 3, 3),
        "weight": (1,),
    }
    assert graph.atom_data["forces"].shape == (2, 3)
    assert graph.to_ase().get_chemical_formula() == frames[13].get_chemical_formula()
    assert_same(dataset[-3], graph)


def test_indices_out_of_range(dataset: Dataset) -> None:
    for i in (16, -17):
        with pytest.raises(IndexError, match="dataset of 16"):
            dataset[i]


def test_a_graph_does_not_share_memory_with_the_dataset(dataset: Dataset) -> None:
    dataset[0].positions.zero_()
    next(iter(dataset)).positions.zero_()
    assert dataset[0].positions.abs().sum() > 0


def test_a_batch_is_the_graphs_joined(dataset: Dataset) -> None:
    order = np.array([14, 0, 7, 0, 13])
    wanted = AtomicGraph.from_list([dataset[i] for i in order.tolist()])
    assert_same(dataset.batch(order), wanted)
    for found, i in zip(dataset.__getitems__(order.tolist()), order.tolist(), strict=True):
        assert_same(found, dataset[i])


def test_subsets_and_sums_keep_structures_labels_and_weights(dataset: Dataset) -> None:
    first, second = dataset.subset([3, 14]).with_weight(0.5), dataset.subset(np.array([15]))
    joined = Dataset.concatenate([first, second, first])
    assert [joined[i].system_data["weight"].item() for i in range(5)] == [0.5, 0.5, 1.0, 0.5, 0.5]
    for i, j in enumerate([3, 14, 15, 3, 14]):
        np.testing.assert_array_equal(joined[i].positions, dataset[j].positions)
    assert joined.num_atoms.tolist() == dataset.num_atoms[[3, 14, 15, 3, 14]].tolist()
    assert joined.label_counts() == {"energy": 5, "forces": 5, "stress": 3}
    again = joined.subset([4, 2])
    np.testing.assert_array_equal(again.batch(np.array([1, 0])).positions, joined.batch(np.array([2, 4])).positions)
    assert again.config_types.tolist() == ["crystal", "crystal"]


def test_an_empty_subset(dataset: Dataset) -> None:
    empty = dataset.subset([])
    assert (len(empty), list(empty), empty.elements) == (0, [], ())
    assert empty.label_counts() == {"energy": 0, "forces": 0, "stress": 0}


def test_elements_and_their_counts(dataset: Dataset, frames: list[ase.Atoms]) -> None:
    structures, atoms = dataset.element_counts()
    for element in (1, 6, 8, 42):
        assert structures[element] == sum(element in a.numbers for a in frames)
        assert atoms[element] == sum((a.numbers == element).sum() for a in frames)
    assert dataset.elements == (1, 6, 8, 42)
    assert dataset.subset([12]).elements == (42,)


@pytest.mark.parametrize("max_atoms", [1, 7, 1000])
def test_blocks_go_through_everything_in_order(dataset: Dataset, max_atoms: int) -> None:
    blocks = list(dataset.blocks(max_atoms))
    assert [start for start, _ in blocks] == np.cumsum([0, *(len(columns) for _, columns in blocks[:-1])]).tolist()
    joined = Columns.concatenate([columns for _, columns in blocks])
    whole = dataset.columns(np.arange(16))
    for name in Columns.__annotations__:
        np.testing.assert_array_equal(getattr(joined, name), getattr(whole, name))
    # a block holds less than the limit beyond the structure that reaches it
    assert all(columns.num_atoms.sum() < max_atoms + 6 for _, columns in blocks)


def test_atoms_of_structures() -> None:
    offsets = np.array([0, 3, 3, 7])
    assert atoms_of(offsets, np.array([2, 0, 1, 0])).tolist() == [3, 4, 5, 6, 0, 1, 2, 0, 1, 2]
    assert atoms_of(offsets, np.array([], dtype=int)).tolist() == []
