"""Bonds for pictures: those of molecules wherever the cell cuts them, and the coordination of known crystals."""

from __future__ import annotations

import ase
import numpy as np
import pytest
from ase.build import bulk, graphene, molecule
from ase.spacegroup import crystal

from atomsml.io import REACH, bond_graph
from atomsml.report.bonds import drawn_bonds, layout


def coordination(atoms: ase.Atoms) -> list[int]:
    return np.bincount(drawn_bonds(atoms)[:, :2].ravel(), minlength=len(atoms)).tolist()


@pytest.mark.parametrize("name", ["CH3CH2OH", "C6H6", "C60"])
def test_a_molecule_has_the_same_bonds_alone_and_across_the_faces_of_a_cell(name: str) -> None:
    atoms = molecule(name)
    alone = drawn_bonds(atoms)
    assert {(i, j) for i, j, *_ in alone.tolist()} == bond_graph(atoms, REACH)
    atoms.set_cell([[14, 0, 0], [2, 14, 0], [-1, 3, 15]])
    atoms.pbc = True
    atoms.positions -= atoms.positions[0]  # onto a corner
    atoms.wrap()
    bonds = drawn_bonds(atoms)
    assert {tuple(sorted(pair)) for pair in bonds[:, :2].tolist()} == bond_graph(molecule(name), REACH)
    assert len(bonds) == len(alone)
    arranged = layout(atoms, bonds)
    whole = atoms.positions + arranged.shifts @ atoms.cell.array
    original = molecule(name).get_all_distances()
    assert np.allclose(ase.Atoms(atoms.numbers, whole).get_all_distances(), original, atol=1e-9)
    assert not arranged.faces.any()
    middle = np.linalg.solve(atoms.cell.array.T, whole.mean(0))
    assert ((middle > -0.011) & (middle < 1)).all()


@pytest.mark.parametrize(
    ("atoms", "expected"),
    [
        (bulk("Cu", cubic=True), [12] * 4),
        (bulk("Cu"), [12]),
        (bulk("C", "diamond", cubic=True), [4] * 8),
        (bulk("NaCl", "rocksalt", 5.64, cubic=True), [6] * 8),
        (bulk("MgO", "rocksalt", 4.21), [6, 6]),  # without the contacts of magnesium
        (bulk("CsCl", "cesiumchloride", 4.12), [8, 8]),
        (graphene(vacuum=5.0), [3, 3]),
        (
            crystal(
                ["Ti", "O"], [(0, 0, 0), (0.3053, 0.3053, 0)], spacegroup=136, cellpar=[4.594, 4.594, 2.959, 90, 90, 90]
            ),
            [6, 6, 3, 3, 3, 3],
        ),
    ],
)
def test_known_crystals(atoms: ase.Atoms, expected: list[int]) -> None:
    assert coordination(atoms) == expected


def test_lengths_of_bonds_count_the_images() -> None:
    atoms = bulk("Cu")
    atoms.positions += 7.3  # far outside its cell
    for i, j, *offset in drawn_bonds(atoms):
        vector = atoms.positions[j] + offset @ atoms.cell.array - atoms.positions[i]
        assert np.linalg.norm(vector) == pytest.approx(3.61 / np.sqrt(2))


def test_a_crystal_goes_into_its_cell_and_shows_the_atoms_on_its_faces() -> None:
    atoms = bulk("NaCl", "rocksalt", 5.64, cubic=True)
    atoms.positions += 1e-4 * np.random.default_rng(0).normal(size=(8, 3)) + [0, 5.64 * 3, -5.64]
    arranged = layout(atoms, drawn_bonds(atoms))
    places = atoms.get_scaled_positions(wrap=False) + arranged.shifts
    assert ((places > -0.01) & (places < 0.99)).all()
    assert (arranged.faces == (abs(places) < 0.01)).all()
    assert arranged.faces.sum() == 12  # each coordinate is 0 for half of the atoms


def test_nothing_moves_along_open_axes() -> None:
    atoms = graphene(vacuum=5.0)
    atoms.positions += [20.0, -30.0, 40.0]
    arranged = layout(atoms, drawn_bonds(atoms))
    assert (arranged.shifts[:, 2] == 0).all()
    assert (arranged.shifts[:, :2] != 0).any()
    alone = molecule("H2O")
    alone.positions += 100.0
    assert (layout(alone, drawn_bonds(alone)).shifts == 0).all()
