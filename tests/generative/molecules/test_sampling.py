"""Seeds of molecules, batches of like sizes, and molecules laid over their scaffold."""

from __future__ import annotations

import ase
import numpy as np
import pytest
import torch
from ase.build import molecule
from scipy.spatial.transform import Rotation

from atomsml.generative.molecules.molecules import Scaffold
from atomsml.generative.molecules.sampling import batches_of_like_size, overlaid, sample_seed


def test_seeds_differ_and_fit_into_a_generator() -> None:
    seeds = [sample_seed(s, i) for s in range(30) for i in range(100)]
    assert len(set(seeds)) == len(seeds)
    assert all(torch.Generator().manual_seed(seed).initial_seed() == seed for seed in seeds)
    # neighbouring seeds have nothing in common: bits are half ones
    bits = np.array([[seed >> bit & 1 for bit in range(63)] for seed in seeds])
    assert abs(bits.mean() - 0.5) < 5 * 0.5 / np.sqrt(bits.size)


def test_a_seed_is_the_same_forever() -> None:
    """numpy promises that SeedSequence never changes; this is what it makes of (7, 3)."""
    assert sample_seed(7, 3) == int(np.random.SeedSequence(entropy=(7, 3)).generate_state(1, np.uint64)[0]) // 2


@pytest.mark.parametrize("max_pairs", [1, 300, 5000])
def test_batches_hold_everything_once_within_their_bounds(max_pairs: int) -> None:
    sizes = np.random.default_rng(0).integers(1, 40, 300).tolist()
    batches = batches_of_like_size(sizes, max_pairs)
    assert sorted(place for batch in batches for place in batch) == list(range(300))
    for batch in batches:
        own = [sizes[place] for place in batch]
        padded = len(own) * max(own) ** 2
        assert len(batch) == 1 or padded <= max_pairs
        assert padded - sum(size**2 for size in own) <= max_pairs / 10


def test_few_molecules_share_a_batch() -> None:
    """Padding that costs less than another batch is welcome."""
    assert batches_of_like_size([20, 10, 18, 22, 9, 17], 30_000) == [[4, 1, 5, 2, 0, 3]]
    assert batches_of_like_size([20, 10, 18, 22, 9, 17], max_molecules=4) == [[4, 1, 5, 2], [0, 3]]


def test_no_molecules_make_no_batches() -> None:
    assert batches_of_like_size([], 100) == []


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
