"""What the networks of a graph flow are told, against RDKit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from rdkit import Chem

from atomsml.generative.graphs.graphs import MolecularGraphs
from atomsml.generative.molecules.flow.tasks import UNIT
from atomsml.generative.molecules.graph_flow.atoms import molecules_of_graphs
from atomsml.generative.molecules.graph_flow.tasks import (
    FARTHEST,
    ORDERS,
    bonded_hydrogen_task,
    bonded_molecules,
    bonded_skeleton_task,
    pair_features,
)
from atomsml.generative.molecules.molecules import Molecules
from atomsml.io import parse_smiles

SMILES = ("CC(=O)Nc1ccco1", "C1CC2CC1C2", "N#CCCCCCCO", "C1CCCCC1")
HEAVY = (6, 7, 8)


def placed(seed: int = 0) -> Molecules:
    """At random places, which nothing here depends on."""
    molecules = molecules_of_graphs(MolecularGraphs.from_mols([parse_smiles(text) for text in SMILES]))
    generator = torch.Generator().manual_seed(seed)
    positions = torch.randn(molecules.positions.shape, generator=generator) * molecules.mask[..., None]
    return molecules.replace(positions=positions)


def test_pairs_say_orders_and_distances_as_rdkit_counts_them() -> None:
    molecules = placed()
    assert molecules.bonds is not None
    features = pair_features(molecules.bonds).numpy()
    for row, text in enumerate(SMILES):
        mol = parse_smiles(text)
        size, apart = mol.GetNumAtoms(), Chem.GetDistanceMatrix(mol)
        kinds = np.zeros((size, size), int)
        for bond in mol.GetBonds():
            order = 4 if bond.GetIsAromatic() else int(bond.GetBondTypeAsDouble())
            kinds[bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()] = kinds[
                bond.GetEndAtomIdx(), bond.GetBeginAtomIdx()
            ] = order
        mine = features[row, :size, :size]
        np.testing.assert_array_equal(mine[..., :ORDERS].sum(-1) * (1 + mine[..., :ORDERS].argmax(-1)), kinds)
        for distance in range(2, FARTHEST + 1):
            there = apart >= distance if distance == FARTHEST else apart == distance
            np.testing.assert_array_equal(mine[..., ORDERS + distance - 2], there)


def test_pairs_say_where_rings_close() -> None:
    """Across a ring of six there are two ways of three bonds; of five atoms, one of two bonds and one of three."""
    for text, pair, several, longer in (("C1CCCCC1", (0, 3), 1, 0), ("C1CCCC1", (0, 2), 0, 1), ("CCCCC", (0, 2), 0, 0)):
        molecules = molecules_of_graphs(MolecularGraphs.from_mols([parse_smiles(text)]))
        assert molecules.bonds is not None
        found = pair_features(molecules.bonds)[0, pair[0], pair[1]]
        assert found[-2:].tolist() == [several, longer]


def test_atoms_are_sorted_with_their_bonds() -> None:
    molecules = placed()
    order = torch.randperm(molecules.numbers.shape[1], generator=torch.Generator().manual_seed(3))
    assert molecules.bonds is not None
    mixed = Molecules(
        molecules.numbers[:, order], molecules.positions[:, order], molecules.bonds[:, order][:, :, order]
    )
    united = bonded_molecules(mixed, HEAVY)
    for row, text in enumerate(SMILES):
        mol = parse_smiles(text)
        heavy = mol.GetNumHeavyAtoms()
        assert (int(united.num_heavy[row]), int(united.num_atoms[row])) == (heavy, mol.GetNumAtoms())
        types = sorted(
            HEAVY.index(atom.GetAtomicNum()) * 5 + atom.GetTotalNumHs(includeNeighbors=True)
            for atom in mol.GetAtoms()
            if atom.GetAtomicNum() > 1
        )
        assert sorted(united.types[row, :heavy].tolist()) == types
        carried = np.bincount(united.parent[row, heavy : mol.GetNumAtoms()].numpy(), minlength=heavy)
        np.testing.assert_array_equal(carried, united.types[row, :heavy].numpy() % 5)


def test_states_and_positions_are_inverse() -> None:
    united = bonded_molecules(placed(), HEAVY)
    nothing = torch.zeros_like(united.mask)
    some = nothing.clone()
    some[:, :3] = True
    tasks = [bonded_skeleton_task(united, nothing), bonded_skeleton_task(united, some), bonded_hydrogen_task(united)]
    for task in tasks:
        back = task.positions(task.state(task.places))
        torch.testing.assert_close(back[task.atoms.mask], task.places[task.atoms.mask], rtol=0, atol=1e-5)
        assert torch.equal(back[task.atoms.known], task.places[task.atoms.known])


def test_hydrogens_start_about_the_atoms_that_carry_them() -> None:
    united = bonded_molecules(placed(), HEAVY)
    task = bonded_hydrogen_task(united)
    hydrogen = united.mask & ~united.is_heavy
    carriers = task.places.gather(1, united.parent.clamp(min=0)[..., None].expand_as(task.places))
    torch.testing.assert_close(task.origin[hydrogen], carriers[hydrogen], rtol=0, atol=1e-5)
    assert UNIT * task.root.diagonal(dim1=1, dim2=2)[hydrogen].unique() == pytest.approx(0.65, abs=1e-6)


def test_unknown_bonds_are_refused() -> None:
    molecules = placed()
    with pytest.raises(ValueError, match="a molecule without bonds"):
        bonded_molecules(Molecules(molecules.numbers, molecules.positions), HEAVY)
