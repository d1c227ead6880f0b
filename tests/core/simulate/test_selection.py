"""Atoms by number, element and region."""

from __future__ import annotations

import ase
import numpy as np
import pytest
from ase.build import fcc111, molecule
from ase.constraints import FixAtoms, FixedPlane

from atomsml.simulate.selection import Selection


@pytest.fixture
def line() -> ase.Atoms:
    """Atoms at z = 0, 1, ..., 5 A."""
    return ase.Atoms("SiSiGeSiGeO", [[0, -z, z] for z in range(6)])


@pytest.mark.parametrize(
    ("words", "chosen"),
    [
        ("4", [4]),
        ("0-2", [0, 1, 2]),
        ("0-1,5", [0, 1, 5]),
        ("Ge", [2, 4]),
        ("O, 0", [0, 5]),
        ("z<2.0", [0, 1]),
        ("z<=2", [0, 1, 2]),
        ("z > 3.5", [4, 5]),
        ("y>=-1e0", [0, 1]),
        ("1<z<=3", [2, 3]),
        ("4>z>=2.", [2, 3]),
        ("3<z", [4, 5]),
        ("Si,Si,0", [0, 1, 3]),
    ],
)
def test_terms(line: ase.Atoms, words: str, chosen: list[int]) -> None:
    assert Selection(words).of(line).tolist() == chosen


@pytest.mark.parametrize("words", ["", "Si,", "si", "3-1", "-1", "z", "z<", "w<3", "z<nan", "z=3", "0:3", "X", "1.5"])
def test_words_that_mean_nothing_are_refused(words: str) -> None:
    with pytest.raises(ValueError, match="cannot tell which atoms"):
        Selection(words)


@pytest.mark.parametrize(
    ("words", "reason"), [("0-6", "no atom 6; its 6 atoms"), ("Pt", "no atom is meant"), ("z>9", "no atom is meant")]
)
def test_atoms_that_are_not_there(line: ase.Atoms, words: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Selection(words).of(line)


def test_held_atoms_join_those_that_are_held_already() -> None:
    slab = fcc111("Cu", (1, 1, 3), vacuum=5.0)
    heights = slab.positions[:, 2]
    slab.set_constraint(FixedPlane(2, [0, 0, 1]))
    Selection(f"z<{heights.mean()}").hold(slab)
    before = slab.positions.copy()
    slab.set_positions(before + np.ones(3))
    moved = slab.positions - before
    np.testing.assert_allclose(moved, [[0, 0, 0], [1, 1, 1], [1, 1, 0]], atol=1e-12)
    assert [type(each) for each in slab.constraints] == [FixedPlane, FixAtoms]


def test_something_must_be_left_to_move() -> None:
    with pytest.raises(ValueError, match="none is left to move"):
        Selection("H,O").hold(molecule("H2O"))
