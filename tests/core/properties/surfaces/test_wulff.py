"""Wulff shapes beside pymatgen's."""

import numpy as np
import pytest
from ase.build import bulk
from ase.spacegroup import crystal
from pymatgen.analysis.wulff import WulffShape
from pymatgen.core import Lattice

from atomsml.properties.conventional import conventional_cell
from atomsml.properties.surfaces.wulff import wulff_shape

CUBIC = {(1, 1, 1): 1.05, (1, 0, 0): 1.13, (1, 1, 0): 1.2}
HEXAGONAL = {(0, 0, 1): 0.4, (1, 0, 0): 0.5, (1, 0, 1): 0.6}


def shares(faces):
    whole = sum(face.area for face in faces)
    return {of: sum(face.area for face in faces if face.of == of) / whole for of in {face.of for face in faces}}


@pytest.mark.parametrize(("metal", "energies"), [("Cu", CUBIC), ("Zn", HEXAGONAL)])
def test_have_the_faces_of_pymatgen(metal, energies):
    cell = conventional_cell(bulk(metal))
    faces = wulff_shape(cell, energies)
    theirs = WulffShape(Lattice(cell.cell.array), list(energies), list(energies.values()))
    expected = {miller: share for miller, share in theirs.area_fraction_dict.items() if share > 0}
    assert shares(faces) == pytest.approx(expected, rel=1e-6)
    assert sum(face.area for face in faces) == pytest.approx(theirs.surface_area, rel=1e-6)


def test_of_one_plane_of_a_cube_is_an_octahedron():
    faces = wulff_shape(conventional_cell(bulk("Cu")), {(1, 1, 1): 2.0})
    assert len(faces) == 8
    edge = 2.0 * np.sqrt(6)  # of an octahedron whose faces are 2 from its centre
    assert [face.area for face in faces] == pytest.approx([np.sqrt(3) / 4 * edge**2] * 8)


def test_have_the_symmetry_of_the_crystal_and_not_of_its_lattice():
    """In corundum, 101 and 011 are different planes, of a lattice that has them alike."""
    corundum = conventional_cell(
        crystal(
            ["Al", "O"], [(0, 0, 0.352), (0.306, 0, 0.25)], spacegroup=167, cellpar=[4.76, 4.76, 12.99, 90, 90, 120]
        )
    )
    assert len(wulff_shape(corundum, {(1, 0, 1): 1.0})) == 6
    assert len(wulff_shape(corundum, {(0, 1, 1): 1.0, (1, 0, 1): 1.0})) == 12


def test_planes_that_do_not_close_make_no_shape():
    assert wulff_shape(conventional_cell(bulk("Zn")), {(0, 0, 1): 0.4}) == []
    assert wulff_shape(conventional_cell(bulk("Zn")), {(1, 0, 0): 0.4}) == []
    assert wulff_shape(conventional_cell(bulk("Cu")), {(1, 1, 1): -0.1}) == []
