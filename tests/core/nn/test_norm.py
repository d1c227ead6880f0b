"""Separable layer normalisation against the paper's equation in numpy, its symmetry, and zero features."""

import numpy as np
import pytest
import torch
from torch import Tensor

from atomsml.nn.edge_frame import edge_rotation
from atomsml.nn.norm import SeparableLayerNorm
from atomsml.o3 import wigner_d

CHANNELS, EPSILON = 3, 0.02


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def make(lmax: int) -> SeparableLayerNorm:
    """With random scales and biases."""
    norm = SeparableLayerNorm(CHANNELS, lmax, EPSILON).double()
    for seed, parameter in enumerate(norm.parameters()):
        parameter.data += random(*parameter.shape, seed=seed)
    return norm


@pytest.mark.parametrize("lmax", [0, 1, 3])
def test_equation_of_the_paper(lmax: int) -> None:
    norm, features = make(lmax), random(5, (lmax + 1) ** 2, CHANNELS)
    x = features.numpy()
    expected = np.empty_like(x)
    weight, bias = (p.detach().numpy() for p in (norm.scalars.weight, norm.scalars.bias))
    mean, variance = x[:, 0].mean(axis=1, keepdims=True), x[:, 0].var(axis=1, keepdims=True)
    expected[:, 0] = weight * (x[:, 0] - mean) / np.sqrt(variance + EPSILON) + bias
    for atom in range(5):
        total = 0.0
        for l in range(1, lmax + 1):
            for m in range(-l, l + 1):
                for c in range(CHANNELS):
                    total += x[atom, l * l + l + m, c] ** 2 / (lmax * (2 * l + 1) * CHANNELS)
        for l in range(1, lmax + 1):
            rows = slice(l * l, (l + 1) ** 2)
            expected[atom, rows] = norm.weights[l - 1].detach().numpy() * x[atom, rows] / np.sqrt(total + EPSILON)
    np.testing.assert_allclose(norm(features).detach().numpy(), expected, rtol=0, atol=1e-12)


def test_equivariance() -> None:
    norm, features = make(3), random(5, 16, CHANNELS)
    (rotation,) = edge_rotation(random(1, 3))
    d = torch.block_diag(*[wigner_d(l, rotation) for l in range(4)])
    torch.testing.assert_close(norm(d @ features), d @ norm(features), rtol=0, atol=1e-12)


def test_smooth_at_zero_features() -> None:
    """The second derivative by autograd agrees with a finite difference of the first, and no NaN comes up."""
    norm, direction, projection = make(2), random(1, 9, CHANNELS, seed=1), random(1, 9, CHANNELS, seed=2)

    def value(x: Tensor) -> Tensor:
        return (norm(x) * projection).sum()

    for start in (torch.zeros(1, 9, CHANNELS).double(), 0.01 * direction):
        hessian = torch.autograd.functional.hessian(value, start).reshape(9 * CHANNELS, -1)
        gradient, step = torch.func.grad(value), 1e-4
        bend = (gradient(start + step * direction) - gradient(start - step * direction)).flatten() / (2 * step)
        scale = EPSILON**-1  # of second derivatives where features are of the size sqrt(epsilon)
        torch.testing.assert_close(hessian @ direction.flatten(), bend, rtol=0, atol=1e-4 * scale)
