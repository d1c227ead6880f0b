"""AtomicGraph: batching, edge vectors and refusals, against ASE and graphs made by hand."""

import dataclasses
import re

import ase
import ase.neighborlist
import numpy as np
import pytest
import torch
from ase.build import bulk, fcc111, molecule

from atomsml.graph import AtomicGraph, NeighborGraph


def make_graph(atoms: ase.Atoms, cutoff: float | None = None) -> AtomicGraph:
    """The graph of `atoms`, with ASE's neighbour list where a cutoff is given."""
    edges: dict[str, torch.Tensor] = {}
    if cutoff is not None:
        centre, neighbour, offsets = ase.neighborlist.neighbor_list("ijS", atoms, cutoff)
        order = np.argsort(centre, kind="stable")
        edges["edge_index"] = torch.tensor(np.stack([neighbour, centre])[:, order])
        edges["cell_offsets"] = torch.tensor(offsets[order])
    return AtomicGraph(
        positions=torch.tensor(atoms.positions),
        numbers=torch.tensor(atoms.numbers),
        cell=torch.tensor(atoms.cell.array)[None],
        pbc=torch.tensor(atoms.pbc)[None],
        batch=torch.zeros(len(atoms), dtype=torch.int64),
        atom_data={"tag": torch.arange(len(atoms))},
        system_data={"energy": torch.tensor([float(len(atoms))], dtype=torch.float64)},
        **edges,
    )


def systems() -> list[ase.Atoms]:
    salt = bulk("NaCl", "rocksalt", a=5.64)
    salt.rattle(0.1, seed=1)
    return [molecule("CH3OH"), salt, fcc111("Cu", (2, 2, 2), vacuum=6.0), ase.Atoms("He"), molecule("H2O")]


def assert_same(a: AtomicGraph, b: AtomicGraph) -> None:
    for field in dataclasses.fields(AtomicGraph):
        x, y = getattr(a, field.name), getattr(b, field.name)
        if isinstance(x, dict):
            assert x.keys() == y.keys()
            assert all(torch.equal(x[k], y[k]) and x[k].dtype == y[k].dtype for k in x)
        elif x is None:
            assert y is None
        else:
            assert torch.equal(x, y), field.name
            assert x.dtype == y.dtype


@pytest.mark.parametrize("cutoff", [None, 4.0])
def test_to_list_inverts_from_list(cutoff):
    singles = [make_graph(atoms, cutoff) for atoms in systems()]
    for before, after in zip(singles, AtomicGraph.from_list(singles).to_list(), strict=True):
        assert_same(before, after)


def test_from_list_by_hand():
    a = make_graph(ase.Atoms("HF", [[0, 0, 0], [0, 0, 0.9]]), cutoff=1.0)
    b = make_graph(ase.Atoms("Li", cell=[2.0, 9.0, 9.0], pbc=[True, False, False]), cutoff=2.5)
    batch = AtomicGraph.from_list([a, b, a])
    assert batch.num_systems == 3
    assert batch.num_atoms == 5
    assert batch.numbers.tolist() == [1, 9, 3, 1, 9]
    assert batch.batch.tolist() == [0, 0, 1, 2, 2]
    assert batch.atoms_per_system.tolist() == [2, 1, 2]
    assert batch.edge_index is not None
    assert batch.edge_index.tolist() == [[1, 0, 2, 2, 4, 3], [0, 1, 2, 2, 3, 4]]
    assert batch.num_edges == 6
    assert batch.pbc.tolist() == [[False] * 3, [True, False, False], [False] * 3]
    assert batch.atom_data["tag"].tolist() == [0, 1, 0, 0, 1]
    assert batch.system_data["energy"].tolist() == [2.0, 1.0, 2.0]


def test_batches_of_batches_are_flat():
    singles = [make_graph(atoms, 4.0) for atoms in systems()]
    nested = AtomicGraph.from_list([AtomicGraph.from_list(singles[:2]), AtomicGraph.from_list(singles[2:])])
    assert_same(nested, AtomicGraph.from_list(singles))


def test_systems_without_atoms_survive():
    empty = make_graph(ase.Atoms(), cutoff=3.0)
    batch = AtomicGraph.from_list([empty, make_graph(molecule("H2O"), 3.0), empty])
    assert batch.atoms_per_system.tolist() == [0, 3, 0]
    assert [g.num_atoms for g in batch.to_list()] == [0, 3, 0]


@pytest.mark.parametrize("atoms", systems(), ids=lambda a: a.get_chemical_formula())
def test_edge_vectors_are_those_of_ase(atoms):
    centre, neighbour, vectors = ase.neighborlist.neighbor_list("ijD", atoms, 4.0)
    graph = make_graph(atoms, 4.0)
    assert graph.edge_index is not None
    order = np.argsort(centre, kind="stable")
    assert np.array_equal(graph.edge_index[0].numpy(), neighbour[order])
    # positions of a few Angstrom, three additions
    np.testing.assert_allclose(graph.edge_vectors().numpy(), vectors[order], atol=1e-13)


def test_edge_vectors_of_a_mixed_batch_are_those_of_its_systems():
    singles = [make_graph(atoms, 4.0) for atoms in systems()]
    vectors = AtomicGraph.from_list(singles).edge_vectors()
    assert torch.equal(vectors, torch.cat([g.edge_vectors() for g in singles]))


def test_edge_vectors_point_from_centre_to_neighbour_and_differentiate():
    graph = make_graph(ase.Atoms("HF", [[0, 0, 0], [0, 0, 0.9]]), cutoff=1.0)
    positions = graph.positions.requires_grad_(True)
    vectors = graph.replace(positions=positions).edge_vectors()
    assert vectors.tolist() == [[0, 0, 0.9], [0, 0, -0.9]]  # receivers 0, 1
    (gradient,) = torch.autograd.grad(vectors[0, 2], positions)
    assert gradient.tolist() == [[0, 0, -1], [0, 0, 1]]


def test_edge_vectors_differentiate_with_respect_to_the_cell():
    graph = make_graph(bulk("Cu"), 3.0)
    cell = graph.cell.requires_grad_(True)
    (gradient,) = torch.autograd.grad(graph.replace(cell=cell).edge_vectors()[:, 0].sum(), cell)
    assert graph.cell_offsets is not None
    by_hand = torch.zeros(1, 3, 3, dtype=torch.float64)
    by_hand[0, :, 0] = graph.cell_offsets.sum(dim=0)
    assert torch.equal(gradient, by_hand)


def test_to_changes_floating_point_tensors_only():
    graph = make_graph(bulk("Cu"), 3.0)
    single = graph.to(dtype=torch.float32)
    assert single.dtype == torch.float32
    assert graph.dtype == torch.float64
    assert single.cell.dtype == single.system_data["energy"].dtype == torch.float32
    assert single.edge_index is not None
    assert single.edge_index.dtype == single.numbers.dtype == single.atom_data["tag"].dtype == torch.int64
    assert single.pbc.dtype == torch.bool
    assert_same(single, graph.to("cpu", torch.float32))
    assert graph.to("meta").device.type == "meta"


def test_replace_leaves_the_original_alone():
    graph = make_graph(molecule("H2O"))
    before = graph.positions.clone()
    moved = graph.replace(positions=graph.positions + 1.0)
    assert torch.equal(graph.positions, before)
    assert torch.equal(moved.positions, before + 1.0)
    assert torch.equal(moved.numbers, graph.numbers)
    with pytest.raises(dataclasses.FrozenInstanceError):
        graph.positions = moved.positions  # type: ignore[misc]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("positions", torch.zeros(3, 2)),
        ("numbers", torch.zeros(2, dtype=torch.int64)),
        ("cell", torch.zeros(3, 3)),
        ("pbc", torch.zeros(2, 3, dtype=torch.bool)),
        ("batch", torch.zeros(4, dtype=torch.int64)),
    ],
)
def test_wrong_shapes_are_refused_by_name(field, value):
    graph = make_graph(molecule("H2O"))
    with pytest.raises(
        ValueError, match=rf"AtomicGraph\.{field} must have shape .* got {re.escape(str(tuple(value.shape)))}"
    ):
        graph.replace(**{field: value})


def test_data_of_the_wrong_length_is_refused():
    graph = make_graph(molecule("H2O"))
    with pytest.raises(ValueError, match=r"atom_data\['charge'\] must have 3 rows"):
        graph.replace(atom_data={"charge": torch.zeros(2)})
    with pytest.raises(ValueError, match=r"system_data\['energy'\] must have 1 rows, one per system, got \(\)"):
        graph.replace(system_data={"energy": torch.tensor(1.0)})


def test_graphs_that_do_not_fit_together_are_refused():
    plain, with_edges = make_graph(molecule("H2O")), make_graph(molecule("H2O"), 3.0)
    with pytest.raises(ValueError, match="at least one graph"):
        AtomicGraph.from_list([])
    with pytest.raises(ValueError, match="neighbour lists, or none"):
        AtomicGraph.from_list([plain, with_edges])
    with pytest.raises(ValueError, match="same system_data keys"):
        AtomicGraph.from_list([plain, plain.replace(system_data={})])


def test_edges_are_asked_for_by_name_where_there_are_none():
    graph = make_graph(molecule("H2O"))
    with pytest.raises(ValueError, match=r"call graph\.with_neighbors\(cutoff\) first"):
        graph.edge_vectors()
    with pytest.raises(ValueError, match="no neighbour list"):
        _ = graph.num_edges


def test_with_neighbors_finds_the_pairs_of_ase():
    graphs = [make_graph(atoms) for atoms in systems()]
    found = AtomicGraph.from_list(graphs).with_neighbors(4.0)
    distances = found.edge_vectors().norm(dim=1).sort().values
    wanted = np.sort(np.concatenate([ase.neighborlist.neighbor_list("d", atoms, 4.0) for atoms in systems()]))
    np.testing.assert_allclose(distances.numpy(), wanted, atol=1e-12)


def test_graphs_are_equal_if_they_are_the_same_object():
    graph, twin = make_graph(molecule("H2O")), make_graph(molecule("H2O"))
    assert graph == graph
    assert graph != twin
    assert len({graph, twin, graph}) == 2


def test_a_graph_with_neighbours_stays_one():
    graph = make_graph(bulk("Cu")).with_neighbors(3.0)
    batch = AtomicGraph.from_list([graph, graph])
    kept = [graph, batch, *batch.to_list(), graph.to(dtype=torch.float32), graph.replace(cell=graph.cell)]
    assert all(isinstance(each, NeighborGraph) for each in [*kept, graph.closer_than(2.6)])
    assert not isinstance(make_graph(bulk("Cu")), NeighborGraph)


def test_connected_takes_the_edges_that_there_are():
    graph = make_graph(bulk("Cu"))
    assert graph.connected(3.0).num_edges == 12  # the nearest neighbours of a cubic close packing
    given = AtomicGraph(*(getattr(graph.connected(3.0), field.name) for field in dataclasses.fields(AtomicGraph)))
    assert given.connected(9.0).num_edges == 12
    assert isinstance(given.connected(9.0), NeighborGraph)
