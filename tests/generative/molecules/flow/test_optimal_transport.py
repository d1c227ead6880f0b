"""Noise that is near to its data: against scipy's Procrustes and assignment, and by what must not change."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from scipy.linalg import orthogonal_procrustes
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from scipy.stats import ortho_group

from atomsml.generative.molecules.flow.optimal_transport import nearest_noise, nearest_rotation


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_rotations_are_those_of_scipy() -> None:
    x, y = normal(4, 7, 3), normal(4, 7, 3, seed=1)
    found = nearest_rotation(x, y)
    for row in range(4):
        expected, _ = orthogonal_procrustes(x[row].numpy(), y[row].numpy())
        np.testing.assert_allclose(found[row].numpy(), expected, atol=1e-12)


def test_a_rotated_and_shuffled_copy_is_found_again() -> None:
    data = normal(1, 6, 3)
    data -= data.mean(dim=1, keepdim=True)
    slightly = ortho_group.rvs(3, random_state=0)
    turned = data @ torch.from_numpy(slightly)
    groups = torch.tensor([[0, 1, 2, 3, 4, 5]])  # all different: the rotation alone
    found = nearest_noise(turned, data, groups, torch.tensor([True]))
    torch.testing.assert_close(found, data, atol=1e-10, rtol=0)
    shuffled = data[:, [2, 0, 1, 3, 5, 4]]
    groups = torch.tensor([[0, 0, 0, 1, 2, 2]])  # the exchange alone
    found = nearest_noise(shuffled, data, groups, torch.tensor([False]))
    torch.testing.assert_close(found, data, atol=0, rtol=0)


def test_assignment_is_the_best_of_all() -> None:
    noise, data = normal(1, 5, 3), normal(1, 5, 3, seed=1)
    found = nearest_noise(noise, data, torch.zeros(1, 5, dtype=torch.int64), torch.tensor([False]))
    best = min((noise[0, list(order)] - data[0]).square().sum() for order in itertools.permutations(range(5)))
    torch.testing.assert_close((found - data).square().sum(), best)


def test_exchange_and_rotation_take_turns_twice() -> None:
    """The second turn finds what the first could not, for lack of the other."""
    noise, data = normal(1, 8, 3), normal(1, 8, 3, seed=1)
    found = nearest_noise(noise, data, torch.zeros(1, 8, dtype=torch.int64), torch.tensor([True]))[0].numpy()
    x, y, distances = noise[0].numpy(), data[0].numpy(), []
    for _ in range(2):
        x = x[linear_sum_assignment(cdist(y, x, "sqeuclidean"))[1]]
        x = x @ orthogonal_procrustes(x, y)[0]
        distances.append(np.square(x - y).sum())
    assert distances[1] < distances[0] - 0.1
    np.testing.assert_allclose(found, x, atol=1e-12)


def test_it_is_nearer_and_changes_nothing_else() -> None:
    noise, data = normal(8, 9, 3), normal(8, 9, 3, seed=1)
    groups = torch.randint(-1, 3, (8, 9), generator=torch.Generator().manual_seed(0))
    rotate = torch.arange(8) % 2 == 0
    found = nearest_noise(noise, data, groups, rotate)
    assert torch.equal(found[groups < 0], noise[groups < 0])
    moved = (groups >= 0)[..., None]
    before = ((noise - data) * moved).square().sum(dim=(1, 2))
    after = ((found - data) * moved).square().sum(dim=(1, 2))
    assert (after <= before).all()
    assert (after < before)[rotate].all()
    # lengths are kept by rotations and exchanges
    for label in range(3):
        for row in range(8):
            old, new = (x[row, groups[row] == label].norm(dim=1).sort().values for x in (noise, found))
            torch.testing.assert_close(old, new)
