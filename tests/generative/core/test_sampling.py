"""Seeds of samples, and batches of like sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from atomsml.generative.core.sampling import batches_of_like_size, sample_seed


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
    assert batches_of_like_size([20, 10, 18, 22, 9, 17], max_samples=4) == [[4, 1, 5, 2], [0, 3]]


def test_no_molecules_make_no_batches() -> None:
    assert batches_of_like_size([], 100) == []
