"""Molecules laid over their scaffold."""

from __future__ import annotations

import ase
import numpy as np
import pytest
import torch
from ase.build import molecule
from scipy.spatial.transform import Rotation

from atomsml.generative.molecules.molecules import Scaffold
from atomsml.generative.molecules.sampling import overlaid


@pytest.mark.parametrize("held", [1, 2, 3, 7])
def test_a_moved_molecule_comes_back_to_its_scaffold(held: int) -> None:
    start = molecule("C6H6")
    start.positions += [3.0, -2.0, 5.0]
    start.positions[:, 2] += np.linspace(0, 1, len(start)) ** 2  # no mirror plane
    moved = start.copy()
    moved.positions = Rotation.random(random_state=1).apply(start.positions) + np.array([10.0, 0.0, -4.0])
    scaffold = Scaffold(tuple(start.numbers[:held].tolist()), torch.from_numpy(start.positions[:held]))
    back = overlaid(moved, scaffold)
    assert np.array_equal(back.positions[:held], start.positions[:held])
    assert np.abs(back.get_all_distances() - start.get_all_distances()).max() < 1e-9
    if held > 2:  # fewer leave a rotation free
        assert np.abs(back.positions - start.positions).max() < 1e-9


def test_a_mirror_image_does_not_fit() -> None:
    chiral = ase.Atoms("CNOFS", [[0, 0, 0], [1.4, 0, 0], [0, 1.5, 0], [0, 0, 1.3], [-1, -1, -1]])
    scaffold = Scaffold(tuple(chiral.numbers.tolist()), torch.from_numpy(chiral.positions))
    mirrored = chiral.copy()
    mirrored.positions[:, 0] *= -1
    with pytest.raises(RuntimeError, match="moved an atom of the scaffold"):
        overlaid(mirrored, scaffold)
