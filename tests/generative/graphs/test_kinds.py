"""Kinds of atoms: draws of what was seen, exact draws of what was not, scaffolds."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from rdkit import Chem

from atomsml.generative.graphs.graphs import MolecularGraphs
from atomsml.generative.graphs.kinds import CHARGE, ELEMENT, HYDROGENS, NEIGHBORS, VALENCE, Held, Kinds, count_kinds
from atomsml.generative.graphs.set import GraphSet
from atomsml.generative.graphs.valences import make_a_molecule


def rows_of(*smiles: str) -> list[np.ndarray]:
    graphs = MolecularGraphs.from_mols([Chem.MolFromSmiles(each) for each in smiles])
    return GraphSet(graphs, np.zeros(len(smiles), np.uint64)).kinds()


def kinds_of(*smiles: str) -> Kinds:
    return Kinds(*count_kinds(rows_of(*smiles)))


def held(smiles: str) -> Held:
    return Held(rows_of(smiles)[0])


def test_kinds_are_what_an_atom_brings() -> None:
    kinds, sets, counts = count_kinds(rows_of("CS(C)(=O)=O", "C[N+](=O)[O-]", "CS(C)(=O)=O"))
    table = {tuple(kind): sets[:, i].tolist() for i, kind in enumerate(kinds.tolist())}
    assert counts.tolist() == [2, 1]
    assert table == {
        (6, 0, 3, 1, 1): [2, 1],
        (16, 0, 0, 6, 4): [1, 0],
        (8, 0, 0, 2, 1): [2, 1],
        (7, 1, 0, 4, 3): [0, 1],
        (8, -1, 0, 1, 1): [0, 1],
    }


def test_isomers_are_drawn_as_often_as_they_were_seen() -> None:
    """Three ethanols and one dimethyl ether: 3/4 of the draws have an OH."""
    kinds, rng, draws = kinds_of("CCO", "CCO", "CCO", "COC", "C"), np.random.default_rng(0), 1000
    alcohols = 0
    for _ in range(draws):
        atoms = kinds.draw(rng, (6, 6, 8), 6)
        assert atoms[:, ELEMENT].tolist() == [6, 6, 8]
        assert atoms[:, HYDROGENS].sum() == 6
        alcohols += atoms[2, HYDROGENS] == 1
    assert abs(alcohols / draws - 0.75) < 4 * np.sqrt(0.75 * 0.25 / draws)


def test_a_number_of_atoms_selects_among_what_was_seen() -> None:
    kinds, rng = kinds_of("CCO", "COC", "C", "CCN"), np.random.default_rng(0)
    assert {len(kinds.draw(rng, num_atoms=9)) for _ in range(20)} == {3}
    assert len(kinds.draw(rng, num_atoms=5)) == 1
    with pytest.raises(ValueError, match="has seen no molecule with 6 atoms; give the formula"):
        kinds.draw(rng, num_atoms=6)


def test_an_unseen_formula_follows_the_frequencies_under_the_conditions() -> None:
    """C2H4N2O2 was never seen. Exact probabilities by enumeration of all kinds of its atoms."""
    smiles = ("CCO", "CC(=O)N", "OCC#N", "C[N+](=O)[O-]", "CN")
    kinds, (table, sets, counts) = kinds_of(*smiles), count_kinds(rows_of(*smiles))
    frequency = counts @ sets
    numbers = (6, 6, 7, 7, 8, 8)
    exact: Counter[tuple[int, ...]] = Counter()
    for chosen in itertools.product(*(np.flatnonzero(table[:, ELEMENT] == z).tolist() for z in numbers)):
        atoms = table[list(chosen)]
        if (
            atoms[:, HYDROGENS].sum() == 4
            and atoms[:, CHARGE].sum() == 0
            and make_a_molecule(atoms[:, VALENCE], atoms[:, NEIGHBORS])
        ):
            exact[chosen] = int(np.prod(frequency[list(chosen)]))
    assert len(exact) > 20
    place = {tuple(kind): i for i, kind in enumerate(table.tolist())}
    rng, draws = np.random.default_rng(1), 1500
    found = Counter(tuple(place[tuple(atom)] for atom in kinds.draw(rng, numbers, 4).tolist()) for _ in range(draws))
    assert set(found) <= set(exact)
    for chosen, weight in exact.items():
        p = weight / exact.total()
        assert abs(found[chosen] / draws - p) < 5 * np.sqrt(p * (1 - p) / draws)


def test_a_scaffold_gives_hydrogens_for_bonds_and_nothing_else() -> None:
    kinds, rng = kinds_of("CCO", "COC", "CCN", "CC#N", "CS(C)(=O)=O", "CSC", "CC"), np.random.default_rng(2)
    for _ in range(50):
        first = kinds.draw(rng, held=held("CC"))[:2]
        assert first[:, ELEMENT].tolist() == [6, 6]
        assert (first[:, VALENCE] + first[:, HYDROGENS] == 4).all()
        assert (first[:, VALENCE] >= 1).all()
        sulphide = kinds.draw(rng, held=held("CSC"))
        assert sulphide[1].tolist() == [16, 0, 0, 2, 2]  # it has no hydrogen to give, and takes no more bonds
    with pytest.raises(ValueError, match="has seen no molecule with such a scaffold"):
        kinds.draw(rng, held=held("N#N"))


@pytest.mark.parametrize(
    ("numbers", "hydrogens"),
    [((6, 8), 10), ((8, 8), 3), ((9,), 0)],  # too many, an odd number, an element without kinds
)
def test_what_cannot_be_is_refused(numbers: tuple[int, ...], hydrogens: int) -> None:
    with pytest.raises(ValueError, match=f"cannot give {hydrogens or 'any'} hydrogens to {len(numbers)} heavy atoms"):
        kinds_of("CCO", "COC", "OO").draw(np.random.default_rng(0), numbers, hydrogens)
