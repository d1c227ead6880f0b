"""Deviations and numberings beside RDKit's GetBestRMS and by brute force."""

from itertools import permutations

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdMolAlign

from atomsml.io.molecules import atoms_from_smiles
from atomsml.io.sdf import mol_with_bonds
from atomsml.properties.conformers.same import comparison
from atomsml.properties.conformers.seeds import embedded, matters


def _compared(smiles, mirror=False, count=4):
    mol = mol_with_bonds(atoms_from_smiles(smiles))
    return mol, comparison(mol, mirror), np.stack(embedded(mol, count, seed=1))


@pytest.mark.parametrize("smiles", ["CCCCC", "c1ccccc1CCO", "CC(C)CO", "OC(=O)CC(=O)O", "FC(F)(F)CO"])
def test_is_the_best_deviation_of_rdkit(smiles):
    mol, compared, geometries = _compared(smiles)
    turned, _ = compared.deviations(geometries[0], geometries[1:])
    part = Chem.RWMol(mol)
    for atom in [each.GetIdx() for each in mol.GetAtoms() if not matters(each)][::-1]:
        part.RemoveAtom(atom)
    for i, geometry in enumerate(geometries[1:]):
        pair = []
        for positions in (geometries[0], geometry):
            conformer = Chem.Conformer(part.GetNumAtoms())
            for k, position in enumerate(positions[compared.atoms].tolist()):
                conformer.SetAtomPosition(k, position)
            pair.append(Chem.Mol(part))
            pair[-1].RemoveAllConformers()
            pair[-1].AddConformer(conformer)
        best = rdMolAlign.GetBestRMS(*pair)
        assert turned[i].min() == pytest.approx(best, abs=1e-5)  # squares of 10 A^2 have 1e-15 of them as noise


def test_numberings_are_all_that_keep_elements_bonds_and_hydrogens():
    """By brute force over all permutations."""
    for smiles, count in (("CC(C)CO", 2), ("CC(C)(C)O", 6), ("C=CC", 1), ("CCCC", 2), ("OC(=O)C(=O)O", 2), ("NCCN", 8)):
        mol, compared, _ = _compared(smiles, count=1)
        kept = [mol.GetAtomWithIdx(int(i)) for i in compared.atoms]
        kinds = [(a.GetAtomicNum(), a.GetTotalNumHs(includeNeighbors=True)) for a in kept]
        bonds = {
            (i, j)
            for i, a in enumerate(kept)
            for j, b in enumerate(kept)
            if mol.GetBondBetweenAtoms(a.GetIdx(), b.GetIdx())
        }
        found = {
            p
            for p in permutations(range(len(kept)))
            if all(kinds[i] == kinds[p[i]] for i in range(len(kept))) and {(p[i], p[j]) for i, j in bonds} == bonds
        }
        assert len(found) == count
        assert {tuple(each) for each in compared.numberings.tolist()} == found


def test_mirror_images_are_the_same_where_the_molecule_is_its_image():
    _, compared, geometries = _compared("CCCC", mirror=True, count=30)
    atoms = atoms_from_smiles("CCCC")
    gauche = []
    for positions in geometries:
        atoms.positions = positions
        if abs(abs((atoms.get_dihedral(0, 1, 2, 3) + 180) % 360 - 180) - 65) < 15:
            gauche.append(positions)
    image = gauche[0] * [1, 1, -1]
    _, chiral, _ = _compared("CCCC", mirror=False, count=1)
    assert compared.same(gauche[0], image[None], 0.1).all()
    assert not chiral.same(gauche[0], image[None], 0.1).any()
    assert compared.degeneracy(gauche[0], 0.1) == 2
    assert chiral.degeneracy(gauche[0], 0.1) == 1


def test_too_many_numberings_are_told():
    _, compared, _ = _compared("FC(F)(F)C(C(F)(F)F)(C(F)(F)F)C(F)(F)F", count=1)
    assert not compared.complete
    assert (compared.numberings[0] == np.arange(len(compared.atoms))).all()
