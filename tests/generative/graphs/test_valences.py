"""Bounds against all graphs of a few atoms, which are enumerated."""

from __future__ import annotations

import networkx
import numpy as np
import pytest
import torch
from rdkit import Chem

from atomsml.generative.graphs.graphs import MolecularGraphs
from atomsml.generative.graphs.valences import FARTHEST, UNDECIDED, bounds, make_a_molecule, settle
from tests.generative.graphs.enumeration import all_valences, completions, molecules

SMILES = ("CC1CC1C#N", "O=S(=O)(c1ccccc1)N1CC1", "CCCCCCCCCCC", "C", "C[N+](=O)[O-]", "C12C3C4C1C5C2C3C45")


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_which_valences_make_a_molecule(n: int) -> None:
    for valences in all_valences(n, 7):
        assert make_a_molecule(np.array(valences)) == (len(molecules(valences)) > 0), valences


def partly_decided(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A molecule of n atoms some of whose pairs are undecided, one of which may have changed; and its valences."""
    while True:
        valences = rng.integers(1, 5, n)
        found = molecules(tuple(np.sort(valences).tolist()))
        if len(found):
            break
    bonds = found[rng.integers(len(found))].copy()
    valences = bonds.sum(axis=1)
    i, j = np.tril_indices(n, -1)
    hidden = rng.random(len(i)) < rng.random()
    bonds[i[hidden], j[hidden]] = bonds[j[hidden], i[hidden]] = UNDECIDED
    if rng.random() < 0.5 and not hidden.all():
        a, b = (ends[~hidden][0] for ends in (i, j))
        bonds[a, b] = bonds[b, a] = rng.integers(4)
    return bonds, valences


@pytest.mark.parametrize("n", [2, 3, 4])
def test_bounds_hold_of_every_completion(n: int) -> None:
    """Tight or not, none is cut off; and a state is called impossible only if it is."""
    rng = np.random.default_rng(n)
    states = [partly_decided(n, rng) for _ in range(300)]
    bonds, valences = (torch.from_numpy(np.stack(arrays)) for arrays in zip(*states, strict=True))
    found = bounds(bonds, valences, torch.ones_like(valences, dtype=torch.bool))
    settled, _ = settle(bonds, valences, torch.ones_like(valences, dtype=torch.bool))
    impossible = missed = 0
    for row, (partly, wanted) in enumerate(states):
        order = np.argsort(wanted)
        every = completions(partly[order][:, order], wanted[order].tolist(), UNDECIDED)
        impossible, missed = impossible + (len(every) == 0), missed + (len(every) == 0 and bool(found.possible[row]))
        if len(every):
            assert found.possible[row]
            back = np.argsort(order)
            every = every[:, back][:, :, back]
            assert (found.low[row].numpy() <= every.min(axis=0)).all()
            assert (found.high[row].numpy() >= every.max(axis=0)).all()
            assert completions(settled[row].numpy()[order][:, order], wanted[order].tolist(), UNDECIDED).shape[
                0
            ] == len(every)
    assert impossible > 10 or n == 2
    assert missed <= 0.2 * impossible  # dead ends that are seen only later


def hidden(smiles: tuple[str, ...], share: float, seed: int) -> tuple[MolecularGraphs, torch.Tensor]:
    graphs = MolecularGraphs.from_mols([Chem.MolFromSmiles(each) for each in smiles])
    drawn = torch.rand(graphs.bonds.shape, generator=torch.Generator().manual_seed(seed)).tril(-1)
    pairs = graphs.mask[:, :, None] & graphs.mask[:, None] & ~torch.eye(graphs.bonds.shape[1], dtype=torch.bool)
    return graphs, torch.where(pairs & (drawn + drawn.mT < share), UNDECIDED, graphs.bonds)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 1.0])
def test_bounds_allow_the_molecule_that_was_hidden(share: float) -> None:
    graphs, bonds = hidden(SMILES, share, 0)
    valences = graphs.bonds.sum(dim=2)
    for known in (bounds(bonds, valences, graphs.mask), settle(bonds, valences, graphs.mask)[1]):
        assert known.possible.all()
        assert ((known.low <= graphs.bonds) & (graphs.bonds <= known.high)).all()


def test_distances_and_components_are_those_of_networkx() -> None:
    graphs, bonds = hidden(SMILES, 0.4, 1)
    found = bounds(bonds, graphs.bonds.sum(dim=2), graphs.mask)
    for row, size in enumerate(graphs.sizes.tolist()):
        decided = bonds[row, :size, :size].numpy()
        graph = networkx.from_numpy_array(np.where(decided == UNDECIDED, 0, decided))
        assert found.components[row] == networkx.number_connected_components(graph)
        lengths = dict(networkx.all_pairs_shortest_path_length(graph))
        for i in range(size):
            for j in range(size):
                assert (
                    found.distance[row, i, j] == min(lengths[i].get(j, FARTHEST), FARTHEST) if j in lengths[i] else -1
                )


def test_a_bridge_must_be_a_bond() -> None:
    """Two rings of possible bonds and one pair between them: without it they fall apart."""
    bonds = torch.zeros(1, 6, 6, dtype=torch.long)
    for i, j in ((0, 1), (1, 2), (0, 2), (3, 4), (4, 5), (3, 5), (2, 3)):
        bonds[0, i, j] = bonds[0, j, i] = UNDECIDED
    valences = torch.tensor([[3, 3, 4, 4, 3, 3]])
    found = bounds(bonds, valences, torch.ones(1, 6, dtype=torch.bool))
    bridges = set(networkx.bridges(networkx.from_numpy_array(bonds[0].numpy())))
    assert bridges == {(2, 3)}
    assert found.low[0, 2, 3] == 1
