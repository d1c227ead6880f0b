"""Graphs from outside: what a kernel could stumble over is refused in words, everything sound passes."""

import ase
import numpy as np
import pytest
import torch
from ase.build import bulk, molecule

from atomsml.geometry import ImpossibleGeometry
from atomsml.graph import AtomicGraph, NeighborGraph
from atomsml.neighbors.checks import CLOSEST, check_indices, connect_checked


@pytest.fixture
def graph() -> NeighborGraph:
    """Two systems: a periodic one of 2 atoms, and a molecule of 9."""
    parts = [bulk("W", cubic=True), molecule("CH3CH2OH")]
    return AtomicGraph.from_list([AtomicGraph.from_ase(part).with_neighbors(4.0) for part in parts])


def changed(x: torch.Tensor, place: tuple[int, ...], value: float) -> torch.Tensor:
    x = x.clone()
    x[place] = value
    return x


def test_sound_graphs_pass(graph: NeighborGraph) -> None:
    for dtype in (torch.float32, torch.float64):
        check_indices(graph.to(dtype=dtype), CLOSEST)
    check_indices(AtomicGraph.from_ase(molecule("H2O")), CLOSEST)
    check_indices(AtomicGraph.from_list(graph.to_list()), CLOSEST)


@pytest.mark.parametrize(
    ("name", "place", "value", "words"),
    [
        ("edge_index", (0, 0), 10**6, "edge 0 joins atoms 1000000 and 0, but the graph has atoms 0 to 10"),
        ("edge_index", (0, 3), -5, "edge 3 joins atoms -5 and 0, but the graph has atoms 0 to 10"),
        ("edge_index", (1, 5), 11, "edge 5 joins atoms .* and 11, but"),
        ("edge_index", (1, -1), -1, "edge .* joins atoms 9 and -1, but"),
        ("edge_index", (1, -1), 2, "sorted by receiver, its second row; edge"),
        ("edge_index", (0, 0), 4, "edge 0 joins atoms 4 and 0 of different systems"),
        ("numbers", (1,), 119, "atom 1 has the atomic number 119"),
        ("numbers", (1,), -6, "atom 1 has the atomic number -6"),
        ("batch", (1,), 2, "batch must be ascending and name systems 0 to 1; that of atom 1 does not"),
        ("batch", (10,), 0, "that of atom 10 does not"),
        ("batch", (0,), -1, "that of atom 0 does not"),
        ("positions", (3, 1), float("nan"), "the position of atom 3 is not finite"),
        ("positions", (3, 1), float("inf"), "the position of atom 3 is not finite"),
    ],
)
def test_what_is_out_of_range(
    graph: NeighborGraph, name: str, place: tuple[int, ...], value: float, words: str
) -> None:
    wrong = graph.replace(**{name: changed(getattr(graph, name), place, value)})
    with pytest.raises(ValueError, match=words):
        check_indices(wrong)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("edge_index", lambda x: x.int()),
        ("edge_index", lambda x: x.T.contiguous()),
        ("edge_index", lambda x: x[:, :-1]),
        ("cell_offsets", lambda x: x[:, :2]),
        ("numbers", lambda x: x.int()),
        ("batch", lambda x: x.double()),
        ("pbc", lambda x: x.long()),
        ("positions", lambda x: x.long()),
    ],
)
def test_other_types_and_shapes(graph: NeighborGraph, name: str, change) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=r"AtomicGraph\.|must have shape"):
        check_indices(graph.replace(**{name: change(getattr(graph, name))}))


def test_atoms_in_one_place_are_those_that_ase_measures() -> None:
    """At and around the limit, within a cell and through its faces; ASE measures the distance."""
    rng = np.random.default_rng(0)
    for distance in (0.0, 1e-12, 0.5e-3, 0.99e-3, 1.01e-3, 0.1):
        direction = rng.standard_normal(3)
        second = np.array([0.01, 2.0, 3.99]) + distance * direction / np.linalg.norm(direction)
        atoms = ase.Atoms("CHH", [[1, 1, 1], [0.01, 2, 3.99], second], cell=[4, 4, 4], pbc=True)
        atoms.positions[2] += [4, -8, 4]
        near = atoms.get_distance(1, 2, mic=True) < CLOSEST
        graph = AtomicGraph.from_ase(atoms)
        if near:
            with pytest.raises(ImpossibleGeometry, match="atoms 1 and 2 are less than"):
                connect_checked(graph, 3.0)
        else:
            assert connect_checked(graph, 3.0).num_edges > 0


def test_an_atom_on_its_own_image() -> None:
    atoms = ase.Atoms("H", cell=[5e-4, 9, 9], pbc=True)
    with pytest.raises(ImpossibleGeometry, match="atom 0 and an image of itself are less than"):
        connect_checked(AtomicGraph.from_ase(atoms), 0.01)
