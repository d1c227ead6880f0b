"""United atoms: which hydrogens belong to which heavy atom, and draws of them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from ase.build import molecule
from rdkit import Chem

from atomsml.generative.molecules.flow.united_atoms import KINDS, UnitedAtoms, count_sets, parents, united_types
from atomsml.io import mol_from_smiles

HEAVY = (6, 7, 8)
SMILES = ("CCO", "COC", "CC(=O)N", "c1ccncc1", "OCC#N", "C", "NCC(O)=O", "CC(C)(C)O")


def row(smiles: str) -> tuple[np.ndarray, np.ndarray]:
    mol = mol_from_smiles(smiles)
    numbers = np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()])
    return numbers, parents(numbers, mol.GetConformer().GetPositions())


def united(*smiles: str) -> UnitedAtoms:
    return UnitedAtoms(HEAVY, *count_sets([row(each) for each in smiles], HEAVY))


@pytest.mark.parametrize("smiles", SMILES)
def test_hydrogens_belong_to_the_atom_that_rdkit_bonds_them_to(smiles: str) -> None:
    mol = mol_from_smiles(smiles)
    numbers, parent = row(smiles)
    for atom in mol.GetAtoms():
        if atom.GetAtomicNum() == 1:
            assert parent[atom.GetIdx()] == atom.GetNeighbors()[0].GetIdx()
        else:
            assert parent[atom.GetIdx()] == -1
    carried = [types % KINDS for types in united_types(numbers, parent, HEAVY) if types >= 0]
    assert carried == [atom.GetTotalNumHs() for atom in Chem.MolFromSmiles(smiles).GetAtoms()]


def test_a_molecule_without_heavy_atoms_is_refused() -> None:
    with pytest.raises(ValueError, match="without heavy atoms has no skeleton"):
        parents(np.array([1, 1]), np.array([[0, 0, 0], [0, 0, 0.74]]))
    crowded = molecule("CH4")
    crowded.append("H")
    with pytest.raises(ValueError, match="5 hydrogens about one atom"):
        parents(crowded.numbers, crowded.positions)


def test_isomers_are_drawn_as_often_as_they_were_seen() -> None:
    """Three ethanols and one dimethyl ether: 3/4 of the draws of C2H6O have an OH."""
    drawer = united("CCO", "CCO", "CCO", "COC", "C")
    rng = np.random.default_rng(0)
    draws = 1000
    alcohols = 0
    for _ in range(draws):
        carried, carriers = drawer.draw((6, 6, 8, *[1] * 6), (), rng)
        assert carried.sum() == 6
        assert np.array_equal(np.bincount(carriers, minlength=3), carried)
        alcohols += carried[2] == 1
    assert abs(alcohols / draws - 0.75) < 4 * np.sqrt(0.75 * 0.25 / draws)


def test_an_unseen_formula_follows_the_frequencies_of_the_elements() -> None:
    """C3H7O was never seen. Exact probabilities by enumeration of p(h1) p(h2) p(h3) p(hO) over all sums of 7."""
    drawer = united("CCO", "COC", "CC(=O)N", "OCC#N")
    seen: dict[int, Counter[int]] = {6: Counter(), 8: Counter()}
    for smiles in ("CCO", "COC", "CC(=O)N", "OCC#N"):
        for atom in Chem.MolFromSmiles(smiles).GetAtoms():
            if atom.GetAtomicNum() in seen:
                seen[atom.GetAtomicNum()][atom.GetTotalNumHs()] += 1
    frequency = {z: {h: n / counts.total() for h, n in counts.items()} for z, counts in seen.items()}
    exact: Counter[tuple[int, ...]] = Counter()
    for a, pa in frequency[6].items():
        for b, pb in frequency[6].items():
            for c, pc in frequency[6].items():
                for o, po in frequency[8].items():
                    if a + b + c + o == 7:
                        exact[a, b, c, o] += pa * pb * pc * po
    rng, draws = np.random.default_rng(1), 3000
    found = Counter(tuple(drawer.draw((6, 6, 6, 8, *[1] * 7), (), rng)[0].tolist()) for _ in range(draws))
    assert set(found) <= set(exact)
    for carried, weight in exact.items():
        p = weight / exact.total()
        assert abs(found[carried] / draws - p) < 5 * np.sqrt(p * (1 - p) / draws)


def test_a_scaffold_carries_no_more_hydrogens_than_it_may() -> None:
    drawer = united("CCO", "COC", "CC(=O)N", "c1ccncc1")
    rng = np.random.default_rng(2)
    for _ in range(50):
        carried, _ = drawer.draw((6, 6, 8, *[1] * 6), (2,), rng)  # the first carbon is bonded twice: ethanol's CH2
        assert carried.tolist() == [2, 3, 1]
    with pytest.raises(ValueError, match="cannot give 6 hydrogens to 3 heavy atoms"):
        drawer.draw((6, 6, 8, *[1] * 6), (0, 0, 0), rng)
