"""End points: laid over each other beside ASE's superposition, numbered as they should be, or refused."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, minimize_rotation_and_translation, molecule
from ase.constraints import FixAtoms

from atomsml.properties.paths.alignment import laid_over, length, prepared

RNG = np.random.default_rng(3)


def turned(atoms, seed=0):
    rng = np.random.default_rng(seed)
    other = atoms.copy()
    other.rotate(rng.uniform(0, 360), rng.normal(size=3))
    other.positions += rng.normal(size=3)
    return other


@pytest.mark.parametrize("name", ["CH3CH2OH", "H2O", "CO2"])
def test_molecules_are_superposed_as_by_ase(name):
    first = molecule(name)
    last = turned(first)
    last.positions += 0.2 * RNG.normal(size=last.positions.shape)
    theirs = last.copy()
    minimize_rotation_and_translation(first, theirs)
    mine = laid_over(first, last)
    # ASE keeps the centre of the second molecule
    theirs.positions += first.positions.mean(axis=0) - theirs.positions.mean(axis=0)
    assert length(first, last) == pytest.approx(np.linalg.norm(theirs.positions - first.positions), abs=1e-6)
    assert np.linalg.norm(mine.positions - first.positions) == pytest.approx(length(first, last), abs=1e-9)


def test_mirror_images_are_not_turned_into_each_other():
    up = molecule("NH3")
    down = up.copy()
    down.positions[:, 2] *= -1
    [first, last] = prepared([up, turned(down)])
    heights = [atoms.positions[0, 2] - atoms.positions[1:, 2].mean() for atoms in (first, last)]
    assert heights[0] == pytest.approx(-heights[1], abs=1e-6)
    assert length(up, down) > 0.5


def test_crystals_are_shifted_and_unwrapped():
    first = bulk("Cu", cubic=True) * (2, 2, 2)
    last = first.copy()
    last.positions[3] += [0.3, 0, 0]
    last.positions += [3.0, -5.0, 0.4]
    last.wrap()
    [_, found] = prepared([first, last])
    ways = found.positions - first.positions
    assert ways.mean(axis=0) == pytest.approx(0, abs=1e-9)
    assert np.linalg.norm(ways[3] - ways[0]) == pytest.approx(0.3, abs=1e-9)


@pytest.mark.parametrize(
    "atoms",
    [molecule("CH3CH2OH"), molecule("C6H6"), bulk("NaCl", "rocksalt", 5.6) * 2],
    ids=["ethanol", "benzene", "NaCl"],
)
def test_shuffled_atoms_are_told_and_reordered(atoms):
    other = atoms.copy()
    other.rattle(0.05, seed=1)
    shuffled = other[np.random.default_rng(5).permutation(len(atoms))]
    if atoms.pbc.any():
        shuffled.positions += 0.1
    else:
        shuffled = turned(shuffled)
    with pytest.raises(ValueError, match="order"):
        prepared([atoms, shuffled])
    _, found = prepared([atoms, shuffled], "reorder")
    assert (found.numbers == atoms.numbers).all()
    # the drift of the shaken atoms is taken out, and some turning
    assert np.linalg.norm(found.positions - atoms.positions) <= np.linalg.norm(other.positions - atoms.positions) + 1e-9


def test_a_vacancy_whose_atoms_were_numbered_by_deleting_is_told():
    crystal = bulk("W", cubic=True) * 2
    first, last = crystal.copy(), crystal.copy()
    del first[0], last[3]
    with pytest.raises(ValueError, match=r"the straight path is .* A long, and 2\.\d\d A if \d+ atoms are numbered"):
        prepared([first, last])
    _, found = prepared([first, last], "reorder")
    hop = np.sqrt(3) / 2 * crystal.cell[0, 0] / 2
    assert length(first, found) == pytest.approx(hop * np.sqrt(1 - 1 / 15), rel=1e-6)  # without the drift of 15 atoms


def test_a_group_that_turns_by_its_symmetry_is_kept_if_it_is_said():
    first = molecule("C2H6")
    last = first.copy()
    methyl = [i for i in range(2, 8) if first.get_distance(0, i) < 1.3]
    last.positions[methyl] = first.positions[[*methyl[1:], methyl[0]]]
    with pytest.raises(ValueError, match="--order keep"):
        prepared([first, last])
    _, kept = prepared([first, last], "keep")
    assert np.linalg.norm(kept.positions - first.positions) > 1
    _, same = prepared([first, last], "reorder")
    assert np.linalg.norm(same.positions - first.positions) < 1e-6


CUBE = bulk("Cu", cubic=True)


def changed(atoms, **changes):
    other = atoms.copy()
    for name, value in changes.items():
        getattr(other, f"set_{name}")(value)
    return other


@pytest.mark.parametrize(
    ("first", "last", "message"),
    [
        (molecule("H2O"), molecule("NH3"), "of the same atoms all along, .* are H2O and H3N"),
        (molecule("H2O"), molecule("H2O")[[1, 0, 2]], "atom 0 is O in the first end point and H in the last end point"),
        (CUBE, changed(CUBE, cell=CUBE.cell * 1.01), "at a fixed cell"),
        (changed(CUBE, constraint=FixAtoms([0])), CUBE, "other atoms are held"),
        (
            changed(CUBE, constraint=FixAtoms([0])),
            changed(CUBE, positions=CUBE.positions + np.array([0.2, 0, 0]), constraint=FixAtoms([0])),
            "atom 0 is held, but stands 0.200 A elsewhere",
        ),
    ],
    ids=["atoms", "order", "cell", "constraints", "held"],
)
def test_other_end_points_are_refused(first, last, message):
    with pytest.raises(ValueError, match=message):
        prepared([first, last])


def test_one_structure_is_no_path():
    with pytest.raises(ValueError, match="two end points"):
        prepared([Atoms("H")])
