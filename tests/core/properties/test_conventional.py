"""Conventional cells and sites beside spglib's."""

import ase
import numpy as np
import pytest
import spglib
from ase.build import bulk
from ase.spacegroup import crystal

from atomsml.properties.conventional import conventional_cell, distinct_sites, rotations, same_faces

RUTILE = crystal(["Ti", "O"], [(0, 0, 0), (0.305, 0.305, 0)], spacegroup=136, cellpar=[4.594, 4.594, 2.959, 90, 90, 90])
QUARTZ = crystal(
    ["Si", "O"],
    [(0.47, 0, 0), (0.413, 0.267, 0.119)],
    spacegroup=152,
    cellpar=[4.916, 4.916, 5.405, 90, 90, 120],
)


@pytest.mark.parametrize(
    "atoms",
    [bulk("Cu"), bulk("NaCl", "rocksalt", a=5.64), bulk("Zn"), RUTILE * (1, 1, 2), QUARTZ],
    ids=["Cu", "NaCl", "Zn", "rutile", "quartz"],
)
def test_are_those_of_spglib(atoms):
    mine = conventional_cell(atoms)
    lattice, _, numbers = spglib.standardize_cell((atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers))
    assert sorted(mine.numbers) == sorted(numbers)
    assert np.sort(mine.cell.lengths()) == pytest.approx(np.sort(np.linalg.norm(lattice, axis=1)), abs=1e-4)
    dataset = spglib.get_symmetry_dataset((mine.cell.array, mine.get_scaled_positions(), mine.numbers))
    sites = distinct_sites(mine)
    assert [site.index for site in sites] == np.unique(dataset.equivalent_atoms).tolist()
    assert [site.wyckoff for site in sites] == [dataset.wyckoffs[site.index] for site in sites]
    assert sum(site.multiplicity for site in sites) == len(mine)
    assert len(np.unique(rotations(mine), axis=0)) == len(np.unique(dataset.rotations, axis=0))


def test_faces_of_a_slab_that_a_mirror_or_inversion_exchanges():
    """Layers A B A are the same from both sides, A B C without inversion are not."""
    same = ase.Atoms("NiCuNi", [(0, 0, 5), (0, 0, 7), (0, 0, 9)], cell=[3, 3, 20], pbc=(True, True, False))
    differ = same.copy()
    differ.symbols[2] = "Cu"
    assert same_faces(same)
    assert not same_faces(differ)
