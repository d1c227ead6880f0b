"""What became of a molecule on a surface, told of structures in which it is plain to see."""

import numpy as np
import pytest
from ase.build import add_adsorbate, fcc111, molecule

from atomsml.properties.surfaces.outcome import outcome_of
from atomsml.properties.surfaces.sites import find_sites

SMALL = fcc111("Cu", (1, 1, 3), vacuum=10)
SITES = find_sites(SMALL)[1]


def with_carbon_monoxide(site, height=1.9):
    slab = fcc111("Cu", (2, 2, 3), vacuum=10)
    add_adsorbate(slab, molecule("CO"), height, site, mol_index=1)
    return slab


def told(end, start=None):
    return outcome_of(start or with_carbon_monoxide("ontop"), end, 2, SITES, SMALL.cell.array, "")


def test_what_stays_needs_no_note():
    end = with_carbon_monoxide("ontop", 1.8)
    found = told(end)
    assert found.notes == []
    assert (found.site, found.moved, found.whole, found.bonded) == ("ontop", False, True, True)
    assert found.nearest == pytest.approx(1.8)


def test_what_leaves():
    found = told(with_carbon_monoxide("ontop", 5.0))
    assert not found.bonded
    assert found.notes == ["not bonded to the slab, of which the nearest atom is 5.00 A away"]


@pytest.mark.parametrize(("site", "kind"), [("bridge", "bridge"), ("fcc", "hollow"), ("hcp", "hollow")])
def test_what_moves(site, kind):
    found = told(with_carbon_monoxide(site))
    assert found.moved
    assert found.notes == [f"moved to another site ({kind})"]


def test_what_moves_to_the_next_cell_moves():
    end = with_carbon_monoxide("ontop")
    end.positions[-2:] += end.cell.array[0]  # of the repeated slab: the same place
    assert not told(end).moved


def test_what_moves_to_the_same_site_beside_it_moves():
    end = with_carbon_monoxide("ontop")
    end.positions[-2:] += SMALL.cell.array[0]
    assert told(end).notes == ["moved to another site (ontop)"]


def test_what_breaks():
    end = with_carbon_monoxide("ontop")
    end.positions[-2] = end.positions[-1] + np.array([2.6, 0, 0])
    assert told(end).notes == ["bonds in it were broken or made: the energy is that of a reaction"]


def test_what_drags_an_atom_of_the_slab_with_it():
    end = with_carbon_monoxide("ontop")
    end.positions[8] += [0, 0, 1.5]
    assert any(note.startswith("an atom of the slab moved by 1.5 A") for note in told(end).notes)


def test_what_has_no_minimum():
    end = with_carbon_monoxide("ontop")
    found = outcome_of(end, end, 2, SITES, SMALL.cell.array, "found no minimum: out of steps")
    assert found.notes == ["found no minimum: out of steps"]
