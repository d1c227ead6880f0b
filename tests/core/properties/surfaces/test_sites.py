"""Sites beside those that ASE knows of its own slabs, and orientations of molecules."""

from collections import Counter

import numpy as np
import pytest
from ase import Atoms
from ase.build import bcc110, fcc100, fcc110, fcc111, hcp0001, molecule

from atomsml.properties.surfaces.sites import find_sites, orientations, standing

SLABS = {
    "fcc111": (fcc111("Cu", (1, 1, 4), vacuum=8), {"ontop": 1, "bridge": 1, "hollow": 2}),
    "fcc100": (fcc100("Cu", (1, 1, 4), vacuum=8), {"ontop": 1, "bridge": 1, "hollow": 1}),
    "fcc110": (fcc110("Cu", (1, 1, 4), vacuum=8), {"ontop": 1, "bridge": 2, "hollow": 1}),
    "hcp0001": (hcp0001("Ti", (1, 1, 4), vacuum=8), {"ontop": 1, "bridge": 1, "hollow": 2}),
    "bcc110": (bcc110("W", (1, 1, 4), vacuum=8), {"ontop": 1, "bridge": 2, "hollow": 1}),
}


@pytest.mark.parametrize("name", list(SLABS))
def test_of_metals(name):
    slab, expected = SLABS[name]
    distinct, _ = find_sites(slab)
    assert Counter(site.kind for site in distinct) == expected


@pytest.mark.parametrize("name", ["fcc111", "fcc100", "fcc110", "hcp0001"])
def test_are_where_ase_puts_them(name):
    """The names of ASE are fractions of the smallest cell."""
    slab, _ = SLABS[name]
    _, every = find_sites(slab)
    theirs = slab.info["adsorbate_info"]
    kinds = {"ontop": "ontop", "bridge": "bridge", "fcc": "hollow", "hcp": "hollow", "hollow": "hollow"}
    kinds |= {"shortbridge": "bridge", "longbridge": "bridge"}
    for site, fraction in theirs["sites"].items():
        lattice = np.zeros((3, 3))
        lattice[:2, :2] = theirs["cell"]
        first = slab.positions[slab.positions[:, 2].argmax()]
        position = first + np.array([*fraction, 0]) @ lattice
        nearest = min(every, key=lambda each: each.distance(position, slab.cell.array))
        assert nearest.distance(position, slab.cell.array) == pytest.approx(0, abs=1e-6)
        assert nearest.kind == kinds[site]


@pytest.mark.parametrize(
    ("atoms", "ways"),
    [(Atoms("O"), 1), (molecule("N2"), 2), (molecule("CO"), 3), (molecule("CO2"), 2), (molecule("C6H6"), 3)],
    ids=["O", "N2", "CO", "CO2", "C6H6"],
)
def test_orientations_that_differ_come_once(atoms, ways):
    found = orientations(atoms)
    assert len(found) == ways
    assert len(orientations(atoms, turned=False)) == 1
    for each in found:
        assert each.positions[:, 2].min() == pytest.approx(0)
        assert each.positions[standing(each), :2].mean(axis=0) == pytest.approx(0)
        assert each.get_all_distances() == pytest.approx(atoms.get_all_distances())


def test_carbon_monoxide_stands_on_either_end_and_lies():
    found = orientations(molecule("CO"))
    lowest = sorted("".join(sorted(each.symbols[i] for i in standing(each))) for each in found)
    assert lowest == ["C", "CO", "O"]


def test_a_chiral_molecule_stays_the_same_hand():
    chiral = Atoms("CHFClBr", [(0, 0, 0), (0, 0, 1.1), (1.3, 0, -0.4), (-0.8, 1.4, -0.5), (-0.9, -1.6, -0.6)])
    hand = np.linalg.det(chiral.positions[2:] - chiral.positions[0])
    for each in orientations(chiral):
        assert np.linalg.det(each.positions[2:] - each.positions[0]) == pytest.approx(hand)
