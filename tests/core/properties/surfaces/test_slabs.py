"""Slabs beside those of ASE: as many atoms a layer, the same areas, layers apart and neighbours."""

import numpy as np
import pytest
from ase.build import bcc110, bulk, fcc100, fcc110, fcc111, hcp0001
from ase.constraints import FixAtoms
from ase.neighborlist import neighbor_list
from ase.spacegroup import crystal

from atomsml.properties.conventional import conventional_cell
from atomsml.properties.surfaces.slabs import SlabSettings, cut, hold, planes, upright


def only(crystal, miller, **settings):
    [slab] = cut(conventional_cell(crystal), SlabSettings(miller=(miller,), **settings))
    return slab


@pytest.mark.parametrize(
    ("crystal", "miller", "theirs"),
    [
        (bulk("Cu"), (1, 1, 1), lambda n: fcc111("Cu", (1, 1, n), vacuum=8)),
        (bulk("Cu"), (1, 0, 0), lambda n: fcc100("Cu", (1, 1, n), vacuum=8)),
        (bulk("Cu"), (1, 1, 0), lambda n: fcc110("Cu", (1, 1, n), vacuum=8)),
        (bulk("W"), (1, 1, 0), lambda n: bcc110("W", (1, 1, n), vacuum=8)),
        (bulk("Zn"), (0, 0, 1), lambda n: hcp0001("Zn", (1, 1, n), a=2.66, c=4.93696, vacuum=8)),
    ],
    ids=["fcc111", "fcc100", "fcc110", "bcc110", "hcp0001"],
)
def test_are_as_those_of_ase(crystal, miller, theirs):
    mine = only(crystal, miller)
    other = theirs(len(mine.atoms))
    assert mine.area == pytest.approx(np.linalg.norm(np.cross(*other.cell[:2])), rel=1e-6)
    assert np.sort(mine.atoms.positions[:, 2]) - mine.atoms.positions[:, 2].min() == pytest.approx(
        other.positions[:, 2] - other.positions[:, 2].min(), abs=1e-6
    )
    cutoff = 1.1 * np.unique(neighbor_list("d", other, 4.5).round(3))[-1]
    distances = [np.sort(neighbor_list("d", each, cutoff)) for each in (mine.atoms, other)]
    assert distances[0] == pytest.approx(distances[1], abs=1e-6)
    assert mine.same_faces


def test_lie_along_x_and_y_open_and_with_the_vacuum_that_is_asked():
    for slab in cut(conventional_cell(bulk("GaAs", "zincblende", a=5.65)), SlabSettings(vacuum=9.0)):
        assert slab.atoms.pbc.tolist() == [True, True, False]
        assert slab.atoms.cell.array[2, :2] == pytest.approx(0)
        assert slab.atoms.cell.array[:2, 2] == pytest.approx(0)
        assert slab.atoms.cell.volume > 0
        assert slab.atoms.cell[2, 2] - slab.thickness == pytest.approx(9.0)
        assert slab.atoms.positions[:, 2].min() == pytest.approx(4.5)


def test_all_terminations_and_whether_their_faces_differ():
    """Gallium arsenide along 111 ends in Ga and As; and between planes that are far, or close to each other."""
    slabs = cut(conventional_cell(bulk("GaAs", "zincblende", a=5.65)), SlabSettings(max_index=1))
    assert [slab.name for slab in slabs] == ["100", "110", "111", "111.2"]
    assert [slab.same_faces for slab in slabs] == [False, True, False, False]
    for slab in slabs:
        assert np.count_nonzero(slab.atoms.numbers == 31) == np.count_nonzero(slab.atoms.numbers == 33)


def test_planes_that_symmetry_makes_alike_come_once():
    assert sorted(planes(conventional_cell(bulk("Cu")), 1)) == [(1, 0, 0), (1, 1, 0), (1, 1, 1)]
    rutile = crystal(["Ti", "O"], [(0, 0, 0), (0.305, 0.305, 0)], spacegroup=136, cellpar=[4.6, 4.6, 2.96, 90, 90, 90])
    assert sorted(planes(conventional_cell(rutile), 1)) == [(0, 0, 1), (1, 0, 0), (1, 0, 1), (1, 1, 0), (1, 1, 1)]


def test_indices_with_a_common_divisor_are_the_plane_without():
    assert only(bulk("Cu"), (2, 2, 2)).name == "111"


@pytest.mark.parametrize(("part", "held"), [("bottom", [0, 1, 2]), ("middle", [1, 2, 3])])
def test_layers_that_are_held(part, held):
    slab = fcc111("Cu", (1, 1, 5), vacuum=8)
    hold(slab, part, 0.5)
    [constraint] = slab.constraints
    assert constraint.index.tolist() == held


def test_what_is_held_stays_where_no_part_is_named():
    slab = fcc111("Cu", (1, 1, 5), vacuum=8)
    slab.set_constraint(FixAtoms([4]))
    hold(slab, "none", 0.5)
    assert slab.constraints[0].index.tolist() == [4]


def test_a_slab_across_the_boundary_becomes_one_piece():
    slab = fcc111("Cu", (1, 1, 5), vacuum=8)
    slab.pbc = True
    across = slab.copy()
    across.positions += slab.cell[2] / 2 + 0.3 * slab.cell[0]
    across.wrap()
    across.cell[1] += 2 * across.cell[0]
    found = upright(across, 12.0)
    assert np.ptp(found.positions[:, 2]) == pytest.approx(np.ptp(slab.positions[:, 2]))
    assert found.cell.lengths()[:2] == pytest.approx(slab.cell.lengths()[:2])
    assert np.sort(neighbor_list("d", found, 5.0)) == pytest.approx(np.sort(neighbor_list("d", slab, 5.0)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"miller": ((0, 0, 0),)}, "of no plane"),
        ({"max_index": 0}, "between 1 and 4, got 0"),
        ({"thickness": -1.0}, "positive lengths, got -1"),
        ({"vacuum": float("nan")}, "positive lengths"),
        ({"hold": "top"}, "unknown part 'top'"),
        ({"held": 1.0}, "between 0 and 1, got 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        SlabSettings(**settings)
