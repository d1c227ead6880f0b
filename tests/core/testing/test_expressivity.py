"""The structures of the expressivity experiments are what they claim, and so is the measure of their difference."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from atomsml.graph import AtomicGraph
from atomsml.potentials.mace import MACE
from atomsml.testing.expressivity import BOND, CLEAR, chain, environments, random_potential, rings, separation


def correlations(graph: AtomicGraph, bodies: int) -> Counter[Any]:
    """How often each shape of the centre with `bodies` - 1 neighbours occurs: their Gram matrix, in the least order."""
    x = graph.positions.numpy()[1:] - graph.positions.numpy()[0]
    gram = np.round(x @ x.T, 6) + 0.0

    def shape(chosen: tuple[int, ...]) -> tuple[float, ...]:
        return min(tuple(gram[np.ix_(p, p)].flatten()) for p in itertools.permutations(chosen))

    return Counter(shape(chosen) for chosen in itertools.combinations(range(len(x)), bodies - 1))


@pytest.mark.parametrize("bodies", [2, 3, 4])
def test_environments_agree_in_so_many_bodies_and_no_more(bodies: int) -> None:
    first, second = environments()[f"{bodies} bodies"]
    for fewer in range(2, bodies + 1):
        assert correlations(first, fewer) == correlations(second, fewer)
    assert correlations(first, bodies + 1) != correlations(second, bodies + 1)


def test_mirror_images_are_mirror_images() -> None:
    """All unsigned correlations agree, and the signed volume of some three neighbours is found with one sign only."""
    first, second = environments()["mirror images"]
    assert correlations(first, 5) == correlations(second, 5)  # of all atoms: they are congruent
    torch.testing.assert_close(second.positions, first.positions * torch.tensor([1.0, -1.0, 1.0]))
    volumes = [np.linalg.det(g.positions.numpy()[[1, 2, 4]]) for g in (first, second)]  # of three different lengths
    assert volumes[0] == pytest.approx(-volumes[1])
    assert len(Counter(correlations(first, 4).values())) == 1  # no two triples are alike: none may stand for another


@pytest.mark.parametrize("k", [2, 3, 4])
def test_only_neighbours_in_a_chain_see_each_other(k: int) -> None:
    for graph in chain(k):
        sender, receiver = graph.edge_index
        assert sorted(zip(sender.tolist(), receiver.tolist(), strict=True)) == sorted(
            pair for i in range(k + 1) for pair in ((i, i + 1), (i + 1, i))
        )
        torch.testing.assert_close(graph.edge_vectors().norm(dim=1), torch.full((2 * k + 2,), BOND).double())


@pytest.mark.parametrize("fold", [2, 3, 4])
def test_halves_with_rings_see_each_other_through_the_bond_only(fold: int) -> None:
    eclipsed, staggered = rings(fold)
    half = (torch.arange(2 * fold + 2) > fold).long()
    for graph in (eclipsed, staggered):
        across = half[graph.edge_index[0]] != half[graph.edge_index[1]]
        assert sorted(graph.edge_index[:, across].T.tolist()) == [[0, fold + 1], [fold + 1, 0]]
    inside = half[eclipsed.edge_index[0]] == half[eclipsed.edge_index[1]]
    lengths = [graph.edge_vectors().norm(dim=1)[inside].sort().values for graph in (eclipsed, staggered)]
    torch.testing.assert_close(*lengths)
    azimuth = torch.atan2(staggered.positions[:, 1], staggered.positions[:, 0])
    assert (azimuth[fold + 2] - azimuth[1]).item() == pytest.approx(np.pi / fold)


def test_separation_knows_the_same_from_the_different() -> None:
    potential = random_potential(MACE, num_layers=2, degree=2, seed=0, changes={})
    graph = rings(3)[0]
    order = torch.randperm(graph.num_atoms, generator=torch.Generator().manual_seed(0))
    shuffled = graph.replace(positions=graph.positions[order]).with_neighbors(potential.cutoff)
    moved = graph.replace(positions=graph.positions + 1e-9 * torch.eye(8, 3, dtype=torch.float64))
    assert separation(potential, (graph, shuffled)) < CLEAR / 10
    assert separation(potential, (graph, moved)) > CLEAR * 10
