"""Fragments of complexes: molecules however their atoms are mixed, names that make no sense, bonds that names cut."""

import ase
import numpy as np
import pytest
from ase.build import bulk, molecule

from atomsml.properties.bind.fragments import cut_bonds, fragments_of, molecules, nearest


def trimer() -> ase.Atoms:
    water, methane, benzene = molecule("H2O"), molecule("CH4"), molecule("C6H6")
    methane.translate([0, 0, 4])
    benzene.translate([0, 0, -4])
    return water + methane + benzene


def test_molecules_are_found_whatever_the_order_of_their_atoms():
    atoms = trimer()
    assert molecules(atoms) == (tuple(range(3)), tuple(range(3, 8)), tuple(range(8, 20)))
    order = np.random.default_rng(0).permutation(len(atoms))
    mixed = molecules(atoms[order])
    assert {frozenset(order[list(each)].tolist()) for each in mixed} == set(map(frozenset, molecules(atoms)))
    assert [each[0] for each in mixed] == sorted(each[0] for each in mixed)


def test_names_go_before_bonds():
    named = ((8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19), (2, 1, 0, 3, 4, 5, 6, 7))
    assert fragments_of(trimer(), named) == (named[0], tuple(range(8)))
    assert cut_bonds(trimer(), named) == []
    assert cut_bonds(molecule("C2H6"), ((0, 2, 3, 4), (1, 5, 6, 7))) == [(0, 1)]


def test_nearest_atoms_are_those_of_ase():
    atoms = trimer()
    i, j, distance = nearest(atoms, (0, 1, 2))
    assert distance == pytest.approx(atoms.get_distance(i, j))
    assert distance == pytest.approx(atoms.get_all_distances()[:3, 3:].min())


@pytest.mark.parametrize(
    ("atoms", "named", "message"),
    [
        pytest.param(bulk("Cu"), None, "this is periodic", id="crystal"),
        pytest.param(molecule("H2O"), None, "one molecule", id="molecule"),
        pytest.param(ase.Atoms("He"), None, "one molecule", id="atom"),
        pytest.param(ase.Atoms(), None, "one molecule", id="nothing"),
        pytest.param(molecule("H2O"), ((0, 1), (1, 2)), "each of its 3 atoms once.* see atoms 1$", id="twice"),
        pytest.param(molecule("H2O"), ((0,), (1,)), "see atoms 2$", id="left-out"),
        pytest.param(molecule("H2O"), ((0, 1), (2, 3)), "see atoms 3$", id="no-atom"),
        pytest.param(molecule("H2O"), ((0, 1, 2),), "two fragments at least", id="one"),
        pytest.param(molecule("H2O"), ((0, 1, 2), ()), "none without atoms", id="empty"),
    ],
)
def test_what_is_no_complex_is_refused(atoms, named, message):
    with pytest.raises(ValueError, match=message):
        fragments_of(atoms, named)


@pytest.mark.parametrize("info", [{"charge": 1}, {"spin": 2}])
def test_ions_and_open_shells_are_refused(info):
    atoms = trimer()
    atoms.info = info
    with pytest.raises(ValueError, match="nothing says which of its fragments"):
        fragments_of(atoms)
