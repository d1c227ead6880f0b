"""SO(2) layers commute with the roll, are smooth at the poles, and are products with the harmonics of the edge."""

import math

import pytest
import torch
from torch import Tensor

from atomsml.nn.edge_frame import EdgeFrames, edge_rotation
from atomsml.nn.so2 import SO2Linear, multiply_blocks
from atomsml.o3 import clebsch_gordan, spherical_harmonics, wigner_d

LMAX, MMAX, CHANNELS = 3, 2, 2


def make(parity: bool, lmax: int = LMAX, mmax: int = MMAX, channels: int = CHANNELS) -> SO2Linear:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SO2Linear(channels, channels, lmax, mmax, parity).double()


def around_edges(layer: SO2Linear, features: Tensor, vectors: Tensor) -> Tensor:
    """The layer in the frame of each vector, one feature for each."""
    frames = EdgeFrames.from_vectors(vectors, layer.lmax, layer.mmax)
    own = torch.arange(len(vectors))
    return frames.rotate_out(layer(frames.rotate_in(features, own)), own, len(vectors))


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


@pytest.mark.parametrize("parity", [True, False])
def test_equivariance(parity: bool) -> None:
    layer, vectors, features = make(parity), random(7, 3), random(7, (LMAX + 1) ** 2, CHANNELS)
    before = around_edges(layer, features, vectors)
    for rotation in edge_rotation(random(5, 3).flip(0)):
        d = torch.block_diag(*[wigner_d(l, rotation) for l in range(LMAX + 1)])
        after = around_edges(layer, d @ features, vectors @ rotation.mT)
        torch.testing.assert_close(after, d @ before, rtol=0, atol=1e-12)


def test_natural_parity() -> None:
    """Inversion changes the sign of odd degrees; without `parity` the layer breaks that."""
    signs = torch.cat([torch.full((2 * l + 1,), (-1.0) ** l) for l in range(LMAX + 1)]).double()[:, None]
    vectors, features = random(7, 3), random(7, (LMAX + 1) ** 2, CHANNELS)
    deviation = {}
    for parity in (True, False):
        layer = make(parity)
        inverted = around_edges(layer, signs * features, -vectors)
        deviation[parity] = (inverted - signs * around_edges(layer, features, vectors)).abs().max().item()
    assert deviation[True] < 1e-12 < 0.1 < deviation[False]


@pytest.mark.parametrize("where", [[0.0, 1.0, 0.0], [0.0, -1.0, 0.0], [1.0, 1.0, 0.3], [1.0, 1.0, 1.0]])
def test_smooth_where_the_roll_jumps(where: list[float]) -> None:
    """First and second derivatives by autograd agree with finite differences across poles and changes of axis."""
    layer, features = make(False), random(1, (LMAX + 1) ** 2, CHANNELS)
    projection = random(1, (LMAX + 1) ** 2, CHANNELS).flip(1)

    def value(vector: Tensor) -> Tensor:
        return (around_edges(layer, features, vector[None]) * projection).sum()

    start = torch.tensor(where, dtype=torch.float64)
    gradient = torch.func.grad(value)(start)
    step = 1e-4
    steps = step * torch.eye(3, dtype=torch.float64)
    slopes = torch.stack([(value(start + s) - value(start - s)) / (2 * step) for s in steps])
    torch.testing.assert_close(gradient, slopes, rtol=0, atol=1e-6 * gradient.norm().item() + 1e-6)
    hessian = torch.autograd.functional.hessian(value, start)
    bends = torch.stack(
        [(torch.func.grad(value)(start + s) - torch.func.grad(value)(start - s)) / (2 * step) for s in steps]
    )
    torch.testing.assert_close(hessian, bends, rtol=0, atol=1e-5 * hessian.norm().item())


@pytest.mark.parametrize("parity", [True, False])
def test_a_full_product_is_such_a_layer(parity: bool) -> None:
    """Path weights w of the product with the harmonics make the matrices: A of even l1 + l2 + l3, B of odd ones."""
    vectors, x = random(5, 3), random(5, (LMAX + 1) ** 2, 1)
    harmonics = spherical_harmonics(2 * LMAX, vectors)
    layer = make(parity, mmax=LMAX, channels=1)
    for weight in [*layer.real, *layer.imaginary]:
        weight.data.zero_()
    expected = torch.zeros_like(x)
    generator = torch.Generator().manual_seed(3)
    for l1 in range(LMAX + 1):
        for l3 in range(LMAX + 1):
            for l2 in range(abs(l1 - l3), l1 + l3 + 1):
                if parity and (l1 + l2 + l3) % 2:
                    continue
                w = torch.randn((), generator=generator, dtype=torch.float64)
                coupling = clebsch_gordan(l1, l2, l3)
                operands = x[:, l1 * l1 : (l1 + 1) ** 2, 0], harmonics[:, l2 * l2 : (l2 + 1) ** 2]
                expected[:, l3 * l3 : (l3 + 1) ** 2, 0] += w * torch.einsum("ei,ej,ijk->ek", *operands, coupling)
                with torch.no_grad():
                    along = math.sqrt(2 * l2 + 1) * w * coupling[:, l2]  # harmonics of the polar axis
                    for m in range(min(l1, l3) + 1):
                        fan_in = (LMAX + 1 - m) * (1 if parity or m == 0 else 2)
                        layer.real[m][l1 - m, l3 - m] += along[l1 + m, l3 + m] * math.sqrt(fan_in)
                        if m and not parity:
                            layer.imaginary[m - 1][l1 - m, l3 - m] += along[l1 + m, l3 - m] * math.sqrt(fan_in)
    torch.testing.assert_close(around_edges(layer, x, vectors), expected, rtol=0, atol=1e-12)


def test_scales_multiply_pairs_of_orders() -> None:
    layer, x = make(True), random(4, 14, CHANNELS)
    scales = random(4, layer.num_scales, CHANNELS)
    # m = 0: l = 0..3; +1: 1..3; -1: 1..3; +2: 2, 3; -2: 2, 3
    rows = [0, 1, 2, 3, 4, 5, 6, 4, 5, 6, 7, 8, 7, 8]
    torch.testing.assert_close(layer(x, scales), layer(x * scales[:, rows]))
    row = torch.tensor([3, 0, 0, 1])
    torch.testing.assert_close(layer(x, scales, row), layer(x, scales[row]))


def test_multiply_blocks() -> None:
    """It is a product with a block-diagonal matrix, and so are its derivatives."""
    x, a, b = random(4, 5), random(2, 3), random(3, 1)
    expected = x @ torch.block_diag(0.5 * a, 2.0 * b)
    torch.testing.assert_close(multiply_blocks(x, [a, b], [0.5, 2.0]), expected)
    inputs = tuple(t.clone().requires_grad_() for t in (x, a, b))
    assert torch.autograd.gradcheck(
        lambda x, a, b: multiply_blocks(x, [a, b, a], [0.5, 2.0, 1.0]), (random(4, 7).requires_grad_(), *inputs[1:])
    )
    assert torch.autograd.gradgradcheck(lambda x, a, b: multiply_blocks(x, [a, b], [0.5, 2.0]), inputs)
