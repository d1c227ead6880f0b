"""Graphs, neighbour lists and lists with a skin: on a device they are what they are on the CPU, to the last bit."""

from __future__ import annotations

import pytest
import torch

from atomsml.graph import AtomicGraph
from atomsml.neighbors.lists import neighbor_list
from atomsml.neighbors.verlet import VerletList

CUTOFF, SKIN = 4.0, 0.8


def assert_equal(found: AtomicGraph, expected: AtomicGraph) -> None:
    for name in ("positions", "numbers", "cell", "pbc", "batch", "edge_index", "cell_offsets"):
        assert torch.equal(getattr(found, name).cpu(), getattr(expected, name)), name


def tensors(graph: AtomicGraph) -> list[torch.Tensor]:
    plain = [x for x in vars(graph).values() if isinstance(x, torch.Tensor)]
    return [*plain, *graph.atom_data.values(), *graph.system_data.values()]


def test_joined_split_and_moved(device: torch.device, dtype: torch.dtype, graph: AtomicGraph) -> None:
    labels = {"atom_data": {"charge": torch.arange(graph.num_atoms)}, "system_data": {"energy": torch.ones(3)}}
    listed = graph.replace(**labels).to(dtype=dtype).with_neighbors(CUTOFF)
    there = listed.to(device)
    assert {x.device for x in tensors(there)} == {device}
    parts = there.to_list()
    assert {x.device for part in parts for x in tensors(part)} == {device}
    assert_equal(AtomicGraph.from_list(parts), listed)
    assert_equal(there.closer_than(2.0), listed.closer_than(2.0))
    assert there.num_edges == listed.num_edges
    assert parts[1].to_ase() == listed.to_list()[1].to_ase()
    torch.testing.assert_close(there.edge_vectors().cpu(), listed.edge_vectors())


@pytest.mark.parametrize("backend", ["auto", "cpu", "torch"])
def test_neighbours(device: torch.device, dtype: torch.dtype, graph: AtomicGraph, backend: str) -> None:
    there, here = graph.to(device, dtype), graph.to(dtype=dtype)
    found = neighbor_list(there.positions, there.cell, there.pbc, CUTOFF, there.batch, backend)
    expected = neighbor_list(here.positions, here.cell, here.pbc, CUTOFF, here.batch)
    for one, other in zip(found, expected, strict=True):
        assert one.device == device
        assert torch.equal(one.cpu(), other)


def test_what_no_list_can_be_made_of_is_said(device: torch.device, dtype: torch.dtype, graph: AtomicGraph) -> None:
    there = graph.to(device, dtype)
    positions = there.positions.clone()
    positions[2, 1] = torch.nan
    with pytest.raises(ValueError, match="the position of atom 2 is not finite"):
        there.replace(positions=positions).with_neighbors(CUTOFF)
    with pytest.raises(ValueError, match="system 1 is periodic along a and b and c but its cell vectors are singular"):
        there.replace(cell=there.cell * 0).with_neighbors(CUTOFF)


def test_a_list_with_a_skin(device: torch.device, dtype: torch.dtype, graph: AtomicGraph) -> None:
    """Kept while atoms move little and the cell with them, made anew as they move far, and on another device."""
    neighbors, there = VerletList(CUTOFF, SKIN), graph.to(device, dtype)
    listed = neighbors.update(there)
    assert listed.edge_vectors().device == device
    neighbors.update(there.replace(positions=there.positions + 0.1))
    neighbors.update(there.replace(positions=1.01 * there.positions, cell=1.01 * there.cell))
    assert neighbors.rebuilds == 1
    moved = there.replace(positions=1.5 * there.positions)
    assert_equal(neighbors.update(moved), moved.with_neighbors(CUTOFF + SKIN).to("cpu"))
    neighbors.update(moved.to("cpu"))
    assert neighbors.rebuilds == 3
