"""Noise of atoms on springs, against numpy's pseudo-inverse and the conditional normal distribution."""

from __future__ import annotations

import numpy as np
import torch

from atomsml.generative.molecules.graph_flow.springs import laplacian, pulled_places, spring_roots

# a ring of three with a tail, and a chain with padding
EDGES = ([(0, 1), (1, 2), (0, 2), (2, 3), (3, 4)], [(0, 1), (1, 2)])
NODES = 5


def weights() -> torch.Tensor:
    found = torch.zeros(2, NODES, NODES, dtype=torch.float64)
    for row, edges in enumerate(EDGES):
        for number, (i, j) in enumerate(edges, start=1):
            found[row, i, j] = found[row, j, i] = number
    return found


def mask() -> torch.Tensor:
    return torch.arange(NODES) < torch.tensor([5, 3])[:, None]


def test_energy_of_the_laplacian_is_that_of_the_springs() -> None:
    k, x = weights(), torch.randn(2, NODES, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = sum(k[0, i, j] * (x[0, i] - x[0, j]).square().sum() for i, j in EDGES[0])
    torch.testing.assert_close((x[0] * (laplacian(k)[0] @ x[0])).sum(), expected)


def test_free_molecules_have_the_pseudo_inverse_as_covariance() -> None:
    k = weights()
    root, inverse = spring_roots(k, mask())
    for row in range(2):
        stiffness = laplacian(k)[row].numpy()
        np.testing.assert_allclose(root[row] @ root[row].T, np.linalg.pinv(stiffness), atol=1e-12)
        np.testing.assert_allclose(inverse[row] @ inverse[row].T, stiffness, atol=1e-12)
    torch.testing.assert_close(root.sum(dim=1), torch.zeros(2, NODES, dtype=torch.float64), rtol=0, atol=1e-12)


def test_with_known_atoms_it_is_the_conditional_normal_distribution() -> None:
    """Conditioned by covariances: of N(0, (L + c)^-1), which for small c is that of the springs."""
    k, known = weights()[:1], torch.tensor([[False, True, False, False, True]])
    places = torch.randn(1, NODES, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    root, _ = spring_roots(k, ~known)
    origin = pulled_places(k, places, known, root)
    weak = 1e-6  # error of the same order
    covariance = np.linalg.inv(laplacian(k)[0].numpy() + weak * np.eye(NODES))
    m, held = np.flatnonzero(~known[0]), np.flatnonzero(known[0])
    gain = covariance[np.ix_(m, held)] @ np.linalg.inv(covariance[np.ix_(held, held)])
    conditional = covariance[np.ix_(m, m)] - gain @ covariance[np.ix_(held, m)]
    np.testing.assert_allclose((root @ root)[0].numpy()[np.ix_(m, m)], conditional, atol=1e-4)
    np.testing.assert_allclose(origin[0, m].numpy(), gain @ places[0, held].numpy(), atol=1e-4)
    assert torch.equal(origin[known], places[known])
    assert torch.equal(root[0][held], torch.zeros(2, NODES, dtype=torch.float64))
