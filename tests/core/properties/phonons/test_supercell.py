"""Supercells: long enough, as symmetric as their crystals, and no larger than they need be."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, make_supercell
from ase.spacegroup import crystal
from phonopy.structure.atoms import PhonopyAtoms
from phonopy.structure.cells import get_primitive, guess_primitive_matrix
from phonopy.structure.symmetry import Symmetry

from atomsml.properties.phonons.supercell import shortest, smallest


def rutile():
    return crystal(["Ti", "O"], [(0, 0, 0), (0.305, 0.305, 0)], spacegroup=136, cellpar=[4.6, 4.6, 2.95, 90, 90, 90])


def anatase():
    return crystal(["Ti", "O"], [(0, 0, 0), (0, 0, 0.208)], spacegroup=141, cellpar=[3.78, 3.78, 9.5, 90, 90, 90])


CRYSTALS = {  # with the most atoms that a supercell of 12 A may take
    "fcc": (bulk("Cu"), 125),
    "bcc": (bulk("W"), 125),
    "cubic cell of fcc": (bulk("Cu", cubic=True), 125),
    "hcp": (bulk("Mg"), 96),
    "diamond": (bulk("Si", cubic=True), 128),
    "body-centred tetragonal": (bulk("In", "bct", a=3.25, c=4.95), 64),
    "tetragonal": (rutile(), 270),
    "body-centred, long": (anatase(), 384),
    "rhombohedral": (crystal("Bi", [(0, 0, 0.234)], spacegroup=166, cellpar=[4.5, 4.5, 11.8, 90, 90, 120]), 54),
    "triclinic": (
        Atoms("CuAu", [(0, 0, 0), (1, 2, 1.5)], cell=[[3.1, 0, 0], [0.4, 3.9, 0], [1, 0.7, 4]], pbc=True),
        120,
    ),
    "a skew cell": (Atoms("Cu", cell=[[2.5, 0, 0], [7.3, 2.4, 0], [1, 9, 2.6]], pbc=True), 125),
    "large": (Atoms("Cu", cell=[30, 31, 33], pbc=True), 1),
}


@pytest.mark.parametrize("name", CRYSTALS)
def test_is_long_symmetric_and_small(name):
    atoms, most = CRYSTALS[name]
    unit = PhonopyAtoms(
        symbols=atoms.get_chemical_symbols(), cell=atoms.cell.array, scaled_positions=atoms.get_scaled_positions()
    )
    primitive = get_primitive(unit, guess_primitive_matrix(unit))
    matrix = smallest(primitive, 12.0)
    assert np.linalg.det(matrix) > 0
    assert len(primitive) * round(np.linalg.det(matrix)) <= most
    cell = matrix @ primitive.cell
    images = np.array([(i, j, k) for i in range(-3, 4) for j in range(-3, 4) for k in range(-3, 4)]) @ cell
    lengths = np.sort(np.linalg.norm(images, axis=1))
    assert lengths[1] >= 12.0 - 1e-6
    assert shortest(cell) == pytest.approx(lengths[1])
    # spglib finds in the supercell, by itself, the rotations that it finds in the crystal
    repeated = Atoms(primitive.symbols, primitive.positions, cell=primitive.cell, pbc=True)
    many = make_supercell(repeated, matrix)
    if len(many) < 200:
        again = PhonopyAtoms(
            symbols=many.get_chemical_symbols(), cell=cell, scaled_positions=many.get_scaled_positions()
        )
        assert len(Symmetry(again).pointgroup_operations) == len(Symmetry(primitive).pointgroup_operations)


def test_vectors_of_one_length_have_one_multiple():
    """Where rounding would tell them apart, the supercell would lose the symmetry."""
    atoms = bulk("Cu", a=12.0 * np.sqrt(2) / 5)
    unit = PhonopyAtoms(symbols=["Cu"], cell=atoms.cell.array, scaled_positions=[(0, 0, 0)])
    assert abs(round(np.linalg.det(smallest(unit, 12.0)))) == 125
