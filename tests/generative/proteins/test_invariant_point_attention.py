"""Invariant point attention against the equations of its paper, written out as loops."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from atomsml.generative.proteins.invariant_point_attention import InvariantPointAttention

CHANNELS, PAIR_CHANNELS, HEADS, C, QUERY, VALUE = 10, 6, 2, 3, 4, 5


def attention(dtype: torch.dtype = torch.float64) -> InvariantPointAttention:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = InvariantPointAttention(CHANNELS, PAIR_CHANNELS, HEADS, C, QUERY, VALUE)
        torch.nn.init.normal_(made.sharpness)
        return made.to(dtype)


def example(samples: int, residues: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rng = np.random.default_rng(1)
    rotations = Rotation.random(samples * residues, random_state=2).as_matrix().reshape(samples, residues, 3, 3)
    arrays = (
        rng.normal(size=(samples, residues, CHANNELS)),
        rng.normal(size=(samples, residues, residues, PAIR_CHANNELS)),
        rotations,
        rng.normal(size=(samples, residues, 3)),
    )
    s, z, r, x = (torch.from_numpy(array) for array in arrays)
    return s, z, r, x


def by_loops(module: InvariantPointAttention, s: np.ndarray, z: np.ndarray, r: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Algorithm 22 of one sample, its lines in order."""
    scalars, points, bias, out = (
        getattr(module, name).matrices()[0].detach().numpy() for name in ("scalars", "points", "bias", "out")
    )
    gamma = np.log1p(np.exp(module.sharpness.detach().numpy()))
    n = len(s)
    w_c, w_l = math.sqrt(2 / (9 * QUERY)), math.sqrt(1 / 3)
    results = []
    for i in range(n):
        of_pairs: list[np.ndarray] = []
        of_nodes: list[np.ndarray] = []
        of_points: list[np.ndarray] = []
        for h in range(HEADS):

            def q(k: int, part: int, h: int = h) -> np.ndarray:
                return (s[k] @ scalars).reshape(HEADS, 3, C)[h, part]

            def p(k: int, first: int, last: int, h: int = h) -> list[np.ndarray]:
                """Points in the common frame."""
                local = (s[k] @ points).reshape(3, HEADS, 2 * QUERY + VALUE)[:, h, first:last].T
                return [r[k] @ point + x[k] for point in local]

            logits = []
            for j in range(n):
                far = sum(np.sum((a - b) ** 2) for a, b in zip(p(i, 0, QUERY), p(j, QUERY, 2 * QUERY), strict=True))
                logits.append(
                    w_l * (q(i, 0) @ q(j, 1) / math.sqrt(C) + z[i, j] @ bias[:, h] - gamma[h] * w_c / 2 * far)
                )
            a = np.exp(logits) / np.exp(logits).sum()
            of_pairs.append(sum(a[j] * z[i, j] for j in range(n)))
            of_nodes.append(sum(a[j] * q(j, 2) for j in range(n)))
            for k in range(VALUE):
                mean = sum(a[j] * p(j, 2 * QUERY, 2 * QUERY + VALUE)[k] for j in range(n))
                of_points.append(r[i].T @ (mean - x[i]))
        lengths = [np.linalg.norm(point) for point in of_points]
        results.append(np.concatenate([*of_pairs, *of_nodes, *np.transpose(of_points), lengths]) @ out)
    return np.array(results)


def test_equals_the_equations_of_the_paper() -> None:
    module, (s, z, r, x) = attention(), example(2, 5)
    found = module(s, z, r, x, torch.ones(2, 5, dtype=torch.bool)).detach().numpy()
    for sample in range(2):
        expected = by_loops(module, *(array[sample].numpy() for array in (s, z, r, x)))
        np.testing.assert_allclose(found[sample], expected, rtol=0, atol=1e-7)  # lengths: root of square + 1e-8


def test_padding_is_not_attended_to() -> None:
    module, (s, z, r, x) = attention(), example(1, 6)
    mask = torch.arange(6)[None] < 4
    found = module(s, z, r, x, mask)[:, :4]
    alone = module(s[:, :4], z[:, :4, :4], r[:, :4], x[:, :4], mask[:, :4])
    torch.testing.assert_close(found, alone, rtol=0, atol=1e-12)
    assert module(s, z, r, x, torch.zeros_like(mask)).isfinite().all()


def test_is_invariant_but_not_under_reflections() -> None:
    module, (s, z, r, x) = attention(), example(2, 6)
    mask = torch.ones(2, 6, dtype=torch.bool)
    turn = torch.from_numpy(Rotation.random(random_state=5).as_matrix())
    here = module(s, z, r, x, mask)
    torch.testing.assert_close(module(s, z, turn @ r, x @ turn.T + 3.0, mask), here, rtol=0, atol=1e-11)
    mirror = torch.diag(torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64))
    mirrored = module(s, z, mirror @ r @ mirror, x @ mirror, mask)  # proper frames again
    assert (mirrored - here).abs().max() > 0.1 * here.abs().max()


def test_distances_by_products_are_exact_enough_in_float32() -> None:
    # residues up to 100 A from the origin, which is 10 here; logits are rounded at |Q|^2 w / 2 sqrt(3) times 2^-24,
    # here 1e3 x 0.07 x 6e-8 = 4e-6, and a few roundings add up
    module, (s, z, r, x) = attention(), example(2, 6)
    x = 10 * torch.nn.functional.normalize(x, dim=-1)
    mask = torch.ones(2, 6, dtype=torch.bool)
    exact = module(s, z, r, x, mask)
    rounded = attention(torch.float32)(*(array.float() for array in (s, z, r, x)), mask)
    assert (rounded - exact).abs().max() < 5e-5 * exact.abs().max()


def test_gradients_by_finite_differences() -> None:
    module, (s, z, r, x) = attention(), example(1, 3)
    inputs = [array.requires_grad_() for array in (s, z, r, x)]
    mask = torch.tensor([[True, True, False]])
    assert torch.autograd.gradcheck(lambda *arrays: module(*arrays, mask)[mask], inputs)
