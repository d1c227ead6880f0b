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
def test_which_atoms_make_a_molecule(n: int) -> None:
    """Exactly of single bonds; what is refused of others has no molecule."""
    for valences in all_valences(n, 7):
        every, v = molecules(valences), np.array(valences)
        single = (every <= 1).all(axis=(1, 2)).any() if n > 1 else len(every) > 0
        assert make_a_molecule(v, v) == single, valences
        for neighbors in np.unique((every > 0).sum(axis=2), axis=0):
            assert make_a_molecule(v, neighbors), (valences, neighbors)


def partly_decided(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A molecule of n atoms some of whose pairs are undecided, one of which may have changed; and what atoms have."""
    found = molecules(tuple(np.sort(rng.integers(1, 5, n)).tolist()))
    if len(found) == 0:
        return partly_decided(n, rng)
    bonds = found[rng.integers(len(found))].copy()
    valences, neighbors = bonds.sum(axis=1), (bonds > 0).sum(axis=1)
    i, j = np.tril_indices(n, -1)
    hidden = rng.random(len(i)) < rng.random()
    bonds[i[hidden], j[hidden]] = bonds[j[hidden], i[hidden]] = UNDECIDED
    if rng.random() < 0.5 and not hidden.all():
        a, b = (ends[~hidden][0] for ends in (i, j))
        bonds[a, b] = bonds[b, a] = rng.integers(4)
    return bonds, valences, neighbors


@pytest.mark.parametrize("n", [2, 3, 4])
def test_bounds_hold_of_every_completion(n: int) -> None:
    """Tight or not, none is cut off; and a state is called impossible only if it is."""
    rng = np.random.default_rng(n)
    states = [partly_decided(n, rng) for _ in range(300)]
    bonds, valences, neighbors = (torch.from_numpy(np.stack(arrays)) for arrays in zip(*states, strict=True))
    mask = torch.ones_like(valences, dtype=torch.bool)
    settled, found = settle(bonds, valences, neighbors, mask)
    allowed = bounds(bonds, valences, neighbors, mask).allowed.numpy()
    impossible = missed = 0
    for row, (partly, *atoms) in enumerate(states):
        every = completions(partly, *atoms, UNDECIDED)
        if len(every) == 0:
            impossible, missed = impossible + 1, missed + int(found.possible[row])
            continue
        assert found.possible[row]
        assert np.take_along_axis(allowed[row][None], every[..., None], axis=3).all()
        assert len(completions(settled[row].numpy(), *atoms, UNDECIDED)) == len(every)
    assert impossible > 10
    assert missed <= 0.1 * impossible  # dead ends that are seen only later


def hidden(smiles: tuple[str, ...], share: float, seed: int) -> tuple[MolecularGraphs, torch.Tensor]:
    graphs = MolecularGraphs.from_mols([Chem.MolFromSmiles(each) for each in smiles])
    drawn = torch.rand(graphs.bonds.shape, generator=torch.Generator().manual_seed(seed)).tril(-1)
    pairs = graphs.mask[:, :, None] & graphs.mask[:, None] & ~torch.eye(graphs.bonds.shape[1], dtype=torch.bool)
    return graphs, torch.where(pairs & (drawn + drawn.mT < share), UNDECIDED, graphs.bonds)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 1.0])
def test_bounds_allow_the_molecule_that_was_hidden(share: float) -> None:
    graphs, bonds = hidden(SMILES, share, 0)
    atoms = graphs.bonds.sum(dim=2), (graphs.bonds > 0).sum(dim=2), graphs.mask
    for known in (bounds(bonds, *atoms), settle(bonds, *atoms)[1]):
        assert known.possible.all()
        assert known.allowed.gather(3, graphs.bonds[..., None]).all()


def test_distances_and_components_are_those_of_networkx() -> None:
    graphs, bonds = hidden(SMILES, 0.4, 1)
    found = bounds(bonds, graphs.bonds.sum(dim=2), (graphs.bonds > 0).sum(dim=2), graphs.mask)
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
    found = bounds(bonds, valences, torch.tensor([[2, 2, 3, 3, 2, 2]]), torch.ones(1, 6, dtype=torch.bool))
    bridges = set(networkx.bridges(networkx.from_numpy_array(bonds[0].numpy())))
    assert bridges == {(2, 3)}
    assert found.low[0, 2, 3] == 1
