"""VerletList: it never misses a pair, and is not made anew while it need not be."""

from __future__ import annotations

from collections.abc import Callable

import ase
import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from hypothesis import given, settings
from hypothesis import strategies as st

from atomsml.graph import AtomicGraph
from atomsml.neighbors.verlet import Snapshot, VerletList
from atomsml.testing import pretended_device

CUTOFF, SKIN = 3.5, 0.6


def edges(graph: AtomicGraph) -> set[tuple[int, ...]]:
    assert graph.edge_index is not None
    assert graph.cell_offsets is not None
    rows = torch.cat([graph.edge_index.T, graph.cell_offsets], dim=1).tolist()
    assert len({tuple(row) for row in rows}) == len(rows)
    return {tuple(row) for row in rows}


def holds_all(graph: AtomicGraph, cutoff: float = CUTOFF) -> bool:
    return edges(graph.with_neighbors(cutoff)) <= edges(graph)


def slab() -> ase.Atoms:
    atoms = bulk("Al", cubic=True) * (2, 2, 2)
    atoms.pbc = [True, True, False]
    atoms.cell[2] = 0
    return atoms


def triclinic() -> ase.Atoms:
    cell = np.array([[4.0, 0.3, 0.0], [-1.7, 5.0, 0.4], [1.2, 0.8, 4.4]])
    fractional = np.random.default_rng(0).uniform(-1, 2, size=(7, 3))
    return ase.Atoms("H7", positions=fractional @ cell, cell=cell, pbc=True)


SYSTEMS = {
    "molecule": [molecule("CH3CH2OH")],
    "crystal": [bulk("Si", cubic=True)],
    "triclinic": [triclinic()],
    "slab": [slab()],
    "batch": [molecule("H2O"), triclinic(), slab(), ase.Atoms(), molecule("CH4")],
}


def graph_of(name: str) -> AtomicGraph:
    return AtomicGraph.from_list([AtomicGraph.from_ase(a) for a in SYSTEMS[name]])


def moved(graph: AtomicGraph, by: list[list[float]]) -> AtomicGraph:
    return graph.replace(positions=graph.positions + torch.tensor(by, dtype=graph.dtype))


def two_atoms(distance: float) -> AtomicGraph:
    return AtomicGraph.from_ase(ase.Atoms("H2", positions=[[1.0, 2.0, 3.0], [1.0 + distance, 2.0, 3.0]]))


@pytest.mark.parametrize("name", SYSTEMS)
def test_random_walks_never_lose_a_pair(name: str) -> None:
    graph, neighbors = graph_of(name), VerletList(CUTOFF, SKIN)
    generator = torch.Generator().manual_seed(1)
    for _ in range(100):
        step = 0.03 * torch.randn(graph.positions.shape, generator=generator, dtype=torch.float64)
        graph = neighbors.update(graph.replace(positions=graph.positions + step))
        assert holds_all(graph)
    assert 3 < neighbors.rebuilds < 50


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("name", SYSTEMS)
def test_random_walks_in_a_changing_cell_never_lose_a_pair(name: str) -> None:
    graph, neighbors = graph_of(name), VerletList(CUTOFF, SKIN)
    generator = torch.Generator().manual_seed(2)
    for _ in range(100):
        strain = torch.eye(3) + 6e-3 * torch.randn(graph.num_systems, 3, 3, generator=generator, dtype=torch.float64)
        positions = torch.einsum("ni,nij->nj", graph.positions, strain[graph.batch])
        positions = positions + 0.02 * torch.randn(positions.shape, generator=generator, dtype=torch.float64)
        graph = neighbors.update(graph.replace(positions=positions, cell=graph.cell @ strain))
        assert holds_all(graph)
    assert 1 < neighbors.rebuilds < 70


@pytest.mark.parametrize(
    ("left", "right", "made"),
    [(0.29, -0.3, 1), (0.31, -0.3, 2), (0.59, 0.0, 1), (0.61, 0.0, 2), (0.0, 0.59, 1), (0.0, 0.61, 2), (0.29, 0.3, 1)],
)
def test_two_atoms_may_move_by_the_skin_together(left: float, right: float, made: int) -> None:
    graph, neighbors = two_atoms(CUTOFF + SKIN), VerletList(CUTOFF, SKIN)
    assert neighbors.update(graph).num_edges == 0
    graph = neighbors.update(moved(graph, [[left, 0, 0], [right, 0, 0]]))
    assert neighbors.rebuilds == made
    assert holds_all(graph)


def test_a_pair_just_outside_is_found_just_inside() -> None:
    """The case that a test one part in a million too generous would get wrong."""
    graph, neighbors = two_atoms(CUTOFF + SKIN), VerletList(CUTOFF, SKIN)
    neighbors.update(graph)
    closer = SKIN / 2 + 1e-7
    graph = neighbors.update(moved(graph, [[closer, 0, 0], [-closer, 0, 0]]))
    assert graph.num_edges == 2


def test_the_two_farthest_atoms_of_each_system_count() -> None:
    """One atom of every system moves by most of the skin."""
    graph, neighbors = graph_of("batch"), VerletList(CUTOFF, SKIN)
    neighbors.update(graph)
    steps = torch.zeros_like(graph.positions)
    steps[[0, 4, 12]] = torch.tensor([0.0, 0.9 * SKIN, 0.0], dtype=torch.float64)
    graph = neighbors.update(graph.replace(positions=graph.positions + steps))
    assert neighbors.rebuilds == 1
    assert holds_all(graph)


matrices = st.lists(st.floats(-1, 1), min_size=9, max_size=9).map(lambda x: np.array(x).reshape(3, 3))


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(matrices, st.floats(0, 0.08), st.floats(0, 0.2), st.integers(0, 2**31))
def test_deformations(direction: np.ndarray, size: float, step: float, seed: int) -> None:
    """Whenever the test says that a list holds, it does; in torch it says so more rarely."""
    atoms = triclinic()
    made = VerletList(CUTOFF, SKIN).update(AtomicGraph.from_ase(atoms))
    reach = (CUTOFF + SKIN) * (1 - 1e-6)
    deformation = np.eye(3) + size * direction
    atoms.set_cell(atoms.cell.array @ deformation, scale_atoms=True)
    steps = np.random.default_rng(seed).normal(size=(len(atoms), 3))
    atoms.positions += step * steps / np.linalg.norm(steps, axis=1, keepdims=True)
    now = AtomicGraph.from_ase(atoms)
    snapshot = Snapshot(made, CUTOFF, reach)
    if snapshot.still_holds(now):
        assert holds_all(now.replace(edge_index=made.edge_index, cell_offsets=made.cell_offsets))
    else:
        assert not snapshot.still_holds_anywhere(now)
    lowest = np.linalg.svd(deformation, compute_uv=False).min()
    if lowest * reach - CUTOFF <= 0:
        assert not snapshot.still_holds(now)


def rotated(atoms: ase.Atoms) -> None:
    atoms.rotate(50, (1, 2, 3), rotate_cell=True)


def expanded(atoms: ase.Atoms) -> None:
    atoms.set_cell(atoms.cell * 1.3, scale_atoms=True)


def compressed(atoms: ase.Atoms) -> None:
    atoms.set_cell(atoms.cell * 0.87, scale_atoms=True)  # (3.5 + 0.6) * 0.87 > 3.5


def sheared(atoms: ase.Atoms) -> None:
    atoms.set_cell(atoms.cell.array @ [[1, 0.1, 0], [0, 1, 0], [0, 0, 1]], scale_atoms=True)


@pytest.mark.parametrize("change", [rotated, expanded, compressed, sheared])
@pytest.mark.parametrize("way", ["still_holds", "still_holds_anywhere"])
def test_atoms_that_follow_their_cell_keep_the_list(change: Callable[[ase.Atoms], None], way: str) -> None:
    atoms = triclinic()
    made = AtomicGraph.from_ase(atoms).with_neighbors(CUTOFF + SKIN)
    snapshot = Snapshot(made, CUTOFF, CUTOFF + SKIN)
    change(atoms)
    now = AtomicGraph.from_ase(atoms)
    assert getattr(snapshot, way)(now)
    assert holds_all(now.replace(edge_index=made.edge_index, cell_offsets=made.cell_offsets))


def unchanged(atoms: ase.Atoms) -> None:
    pass


def squeezed(atoms: ase.Atoms) -> None:
    """By a tenth along one diagonal of the plane, and stretched along the other."""
    atoms.set_cell(atoms.cell.array @ [[1, 0.1, 0], [0.1, 1, 0], [0, 0, 1]], scale_atoms=True)


# what is left of the reach beyond the cutoff; of these changes the bound on the least stretch is exact
MARGINS = {
    unchanged: SKIN,
    compressed: 0.87 * (CUTOFF + SKIN) - CUTOFF,
    expanded: 1.3 * (CUTOFF + SKIN) - CUTOFF,
    rotated: SKIN,
    squeezed: 0.9 * (CUTOFF + SKIN) - CUTOFF,
}


@pytest.mark.parametrize("change", MARGINS)
@pytest.mark.parametrize("way", ["still_holds", "still_holds_anywhere"])
def test_two_atoms_use_up_the_margin_and_no_more(change: Callable[[ase.Atoms], None], way: str) -> None:
    """Beyond what they do with the cell, two atoms of a system may move by half of it each."""
    atoms = triclinic()
    snapshot = Snapshot(AtomicGraph.from_ase(atoms), CUTOFF, CUTOFF + SKIN)
    change(atoms)
    for share, holds in ((0.499, True), (0.501, False)):
        shifted = atoms.copy()
        for i, direction in ((2, [0.6, 0.0, 0.8]), (5, [0.0, -1.0, 0.0])):
            shifted.positions[i] += share * MARGINS[change] * np.array(direction)
        assert getattr(snapshot, way)(AtomicGraph.from_ase(shifted)) == holds


def test_a_cell_compressed_too_far() -> None:
    atoms, neighbors = triclinic(), VerletList(CUTOFF, SKIN)
    neighbors.update(AtomicGraph.from_ase(atoms))
    atoms.set_cell(atoms.cell * 0.85, scale_atoms=True)  # (3.5 + 0.6) * 0.85 < 3.5
    assert holds_all(neighbors.update(AtomicGraph.from_ase(atoms)))
    assert neighbors.rebuilds == 2


def test_wrapped_atoms() -> None:
    atoms, neighbors = triclinic(), VerletList(CUTOFF, SKIN)
    neighbors.update(AtomicGraph.from_ase(atoms))
    atoms.wrap()
    assert holds_all(neighbors.update(AtomicGraph.from_ase(atoms)))
    assert neighbors.rebuilds == 2


def other_axes(graph: AtomicGraph) -> AtomicGraph:
    return graph.replace(pbc=graph.pbc.roll(1))


def other_batch(graph: AtomicGraph) -> AtomicGraph:
    """The same atoms and cells, but one atom belongs to the next system."""
    batch = graph.batch.clone()
    batch[7] = 1
    return graph.replace(batch=batch)


def one_system(graph: AtomicGraph) -> AtomicGraph:
    return graph.to_list()[0]


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("change", [other_axes, other_batch, one_system])
@pytest.mark.parametrize("way", ["still_holds", "still_holds_anywhere"])
def test_another_system(change: Callable[[AtomicGraph], AtomicGraph], way: str) -> None:
    atoms = bulk("Si", cubic=True)
    atoms.pbc = [True, True, False]
    graph, neighbors = AtomicGraph.from_list([AtomicGraph.from_ase(atoms)] * 2), VerletList(CUTOFF, SKIN)
    neighbors.update(graph)
    changed = change(graph)
    if way == "still_holds" or changed.num_systems == 2:
        assert not getattr(Snapshot(graph, CUTOFF, CUTOFF + SKIN), way)(changed)
    assert edges(neighbors.update(changed)) == edges(changed.with_neighbors(CUTOFF + SKIN))
    assert neighbors.rebuilds == 2


def test_positions_changed_in_place() -> None:
    graph, neighbors = two_atoms(CUTOFF + SKIN), VerletList(CUTOFF, SKIN)
    neighbors.update(graph)
    graph.positions[0, 0] += 2
    assert neighbors.update(graph).num_edges == 2


def test_single_precision() -> None:
    graph, neighbors = graph_of("batch").to(dtype=torch.float32), VerletList(CUTOFF, SKIN)
    neighbors.update(graph)
    graph = neighbors.update(graph.replace(positions=(graph.positions + 0.1).requires_grad_()))
    assert neighbors.rebuilds == 1
    assert holds_all(graph)
    assert graph.positions.requires_grad


def test_without_a_skin_every_list_is_new() -> None:
    graph, neighbors = graph_of("triclinic"), VerletList(CUTOFF, 0)
    for _ in range(3):
        assert edges(neighbors.update(graph)) == edges(graph.with_neighbors(CUTOFF))
    assert neighbors.rebuilds == 3


def test_refuses() -> None:
    for skin in (-0.1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="the skin must be finite and not negative"):
            VerletList(CUTOFF, skin)
    graph, neighbors = graph_of("triclinic"), VerletList(CUTOFF, SKIN)
    neighbors.update(graph)
    for bad, message in (
        (graph.replace(positions=graph.positions * float("nan")), "the position of atom 0 is not finite"),
        (graph.replace(cell=graph.cell * float("inf")), "the cell of system 0 is not finite"),
        (graph.replace(cell=graph.cell * 0), "its cell vectors are singular"),
    ):
        with pytest.raises(ValueError, match=message):
            neighbors.update(bad)
    assert neighbors.rebuilds == 1


def test_on_a_gpu() -> None:
    neighbors, generator = VerletList(CUTOFF, SKIN), torch.Generator().manual_seed(1)
    with pretended_device("cuda"):
        graph = graph_of("batch").to("cuda")
        for _ in range(12):
            step = 0.08 * torch.randn(graph.positions.shape, generator=generator, dtype=torch.float64)
            graph = neighbors.update(graph.replace(positions=graph.positions + step.cuda()))
            assert holds_all(graph)
        assert 2 < neighbors.rebuilds < 9
        neighbors.update(graph.to("cpu"))
