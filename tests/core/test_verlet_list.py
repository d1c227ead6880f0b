"""A list with a skin never lacks a pair, and is made anew when it must be."""

from __future__ import annotations

import pytest
import torch
from ase.build import bulk, molecule

from atomsml.graph import AtomicGraph
from atomsml.verlet_list import VerletList

CUTOFF, SKIN = 4.0, 0.6


def crystal(repeats: int = 2) -> AtomicGraph:
    return AtomicGraph.from_ase(bulk("C", "diamond", a=3.6, cubic=True) * (repeats, 2, 1))


def pairs(graph: AtomicGraph, cutoff: float = CUTOFF) -> set[tuple[int, ...]]:
    """(sender, receiver, offset) of the edges shorter than the cutoff."""
    near = graph.closer_than(cutoff)
    assert near.edge_index is not None
    assert near.cell_offsets is not None
    return set(map(tuple, torch.cat([near.edge_index.T, near.cell_offsets], dim=1).tolist()))


def moved(graph: AtomicGraph, atom: int, distance: float) -> AtomicGraph:
    positions = graph.positions.clone()
    positions[atom, 0] += distance
    return graph.replace(positions=positions)


def test_walking_atoms_in_a_breathing_cell_lose_no_pair() -> None:
    """Two systems; the cell of the crystal is strained at random while atoms walk: 60 steps, some of them large."""
    generator = torch.Generator().manual_seed(0)
    graph = AtomicGraph.from_list([crystal(), AtomicGraph.from_ase(molecule("CH3CH2OH", cell=[9, 9, 9], pbc=True))])
    verlet = VerletList(CUTOFF, SKIN)
    for step in range(60):
        size = 0.05 if step % 10 else 0.2
        strain = size * 0.05 * torch.randn(2, 3, 3, generator=generator, dtype=torch.float64)
        walk = size * torch.randn(graph.positions.shape, generator=generator, dtype=torch.float64)
        deformation = torch.eye(3, dtype=torch.float64) + strain
        positions = torch.einsum("ni,nij->nj", graph.positions, deformation[graph.batch]) + 0.3 * walk
        graph = graph.replace(positions=positions, cell=graph.cell @ deformation)
        assert pairs(verlet.update(graph)) == pairs(graph.with_neighbors(CUTOFF))
    assert 5 < verlet.rebuilds < 50


def test_it_is_made_anew_when_twice_the_farthest_way_exceeds_the_skin() -> None:
    graph, verlet = crystal(), VerletList(CUTOFF, SKIN)
    first = verlet.update(graph)
    assert verlet.update(moved(graph, 3, 0.999 * SKIN / 2)).edge_index is first.edge_index
    assert verlet.rebuilds == 1
    assert verlet.update(moved(graph, 3, 1.001 * SKIN / 2)).edge_index is not first.edge_index
    assert verlet.rebuilds == 2


@pytest.mark.parametrize(("factor", "rebuilds"), [(0.86, 2), (0.88, 1), (1.1, 1)])  # 4 / 4.6 = 0.8696
def test_a_cell_that_shrinks_uses_up_the_skin_and_one_that_grows_does_not(factor: float, rebuilds: int) -> None:
    graph, verlet = crystal(), VerletList(CUTOFF, SKIN)
    verlet.update(graph)
    scaled = graph.replace(positions=factor * graph.positions, cell=factor * graph.cell)
    assert pairs(verlet.update(scaled)) == pairs(scaled.with_neighbors(CUTOFF))
    assert verlet.rebuilds == rebuilds


def test_wrapped_atoms_other_atoms_and_other_boundaries_make_it_anew() -> None:
    graph, verlet = crystal(), VerletList(CUTOFF, SKIN)
    variants = [
        graph,
        moved(graph, 0, graph.cell[0, 0, 0].item()),
        crystal(3),
        graph.replace(pbc=torch.tensor([[True, True, False]])),
        AtomicGraph.from_list([AtomicGraph.from_ase(molecule("CH4")) for _ in range(2)]),
        AtomicGraph.from_list([AtomicGraph.from_ase(molecule("NH3")), AtomicGraph.from_ase(molecule("C2H4"))]),
    ]
    for count, variant in enumerate(variants, start=1):
        assert pairs(verlet.update(variant)) == pairs(variant.with_neighbors(CUTOFF))
        assert verlet.rebuilds == count


def test_without_a_skin_any_move_makes_it_anew() -> None:
    graph, verlet = crystal(), VerletList(CUTOFF, 0.0)
    for count, way in enumerate((0.0, 1e-6, 2e-6), start=1):
        verlet.update(moved(graph, 1, way))
        assert verlet.rebuilds == count
    verlet.update(moved(graph, 1, 2e-6))
    assert verlet.rebuilds == 3


def test_positions_that_are_not_finite_are_refused_although_a_list_is_at_hand() -> None:
    graph, verlet = crystal(), VerletList(CUTOFF, SKIN)
    verlet.update(graph)
    with pytest.raises(ValueError, match="atom 2 is not finite"):
        verlet.update(moved(graph, 2, float("nan")))


def test_no_atoms_and_no_cell() -> None:
    verlet = VerletList(CUTOFF, SKIN)
    alone = AtomicGraph.from_ase(molecule("CH4"))
    verlet.update(alone)
    verlet.update(moved(alone, 0, 0.1))
    assert verlet.rebuilds == 1
    with_cell = alone.replace(cell=torch.eye(3, dtype=torch.float64)[None])
    verlet.update(with_cell)  # how a cell that was not there has changed cannot be said
    assert verlet.rebuilds == 2
    nothing = alone.replace(positions=alone.positions[:0], numbers=alone.numbers[:0], batch=alone.batch[:0])
    assert verlet.update(verlet.update(nothing)).num_edges == 0


@pytest.mark.parametrize(("cutoff", "skin"), [(0.0, 1.0), (4.0, -0.1)])
def test_sizes_that_make_no_sense_are_refused(cutoff: float, skin: float) -> None:
    with pytest.raises(ValueError, match="positive cutoff and a skin"):
        VerletList(cutoff, skin)
