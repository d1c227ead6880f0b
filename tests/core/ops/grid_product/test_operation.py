"""Products of signals on the grid against coupling coefficients, and their symmetry."""

import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from atomsml.o3 import clebsch_gordan, wigner_d
from atomsml.o3.s2_grid import all_components
from atomsml.ops.grid_product import grid_product


def signals(lmax: int, count: int, channels: int = 3, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(7 * lmax + count)
    return [torch.randn(5, (lmax + 1) ** 2, channels, generator=generator, dtype=dtype) for _ in range(count)]


def gaunt_product(x: Tensor, y: Tensor, lmax: int) -> Tensor:
    """Components up to lmax of the product of two signals, from Clebsch-Gordan coefficients.

    C couples Y_l1 and Y_l2 to k Y_l3; at the pole, where Y_lm = sqrt(2 l + 1) for m = 0 and 0 else, k is read off.
    """
    degrees_x, degrees_y = (range(round(f.shape[1] ** 0.5)) for f in (x, y))
    out = x.new_zeros(len(x), (lmax + 1) ** 2, x.shape[2])
    for l1 in degrees_x:
        for l2 in degrees_y:
            for l3 in range(abs(l1 - l2), min(l1 + l2, lmax) + 1):
                coupling = clebsch_gordan(l1, l2, l3)
                gaunt = coupling * coupling[l1, l2, l3] * ((2 * l1 + 1) * (2 * l2 + 1) * (2 * l3 + 1)) ** 0.5
                pair = x[:, l1 * l1 : (l1 + 1) ** 2], y[:, l2 * l2 : (l2 + 1) ** 2]
                out[:, l3 * l3 : (l3 + 1) ** 2] += torch.einsum("nac,nbc,abo->noc", *pair, gaunt)
    return out


@pytest.mark.parametrize("lmax", [0, 1, 2, 3])
def test_sum_of_gaunt_products(lmax: int) -> None:
    f1, f2, f3 = signals(lmax, 3)
    scale = lmax + 1  # sqrt of the number of components
    pair = gaunt_product(f1, f2, 2 * lmax)  # nothing is cut off before the third factor
    expected = f1 + gaunt_product(f1, f2, lmax) / scale + gaunt_product(pair, f3, lmax) / scale**2
    torch.testing.assert_close(grid_product((f1, f2, f3), all_components(lmax)), expected, rtol=0, atol=1e-12)


def test_two_factors_are_three_of_which_one_is_zero() -> None:
    """On CPU these are two algorithms; the rows are more than one chunk of the second."""
    f1, f2 = (f.repeat(30, 1, 1) for f in signals(3, 2))
    of_three = grid_product((f1, f2, torch.zeros_like(f1)), all_components(3))
    torch.testing.assert_close(grid_product((f1, f2), all_components(3)), of_three, rtol=0, atol=1e-12)


@pytest.mark.parametrize("lmax", [1, 2, 4])
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("parity", [1, -1])
def test_equivariant(lmax: int, count: int, parity: int) -> None:
    rotation = parity * torch.from_numpy(Rotation.random(random_state=3).as_matrix())
    matrix = torch.block_diag(*[wigner_d(l, rotation) for l in range(lmax + 1)])
    factors, components = signals(lmax, count), all_components(lmax)
    product = grid_product(factors, components)
    turned = grid_product([matrix @ f for f in factors], components)
    torch.testing.assert_close(turned, matrix @ product, rtol=0, atol=1e-12 * product.abs().max().item())


def test_truncated_orders_turn_about_the_polar_axis() -> None:
    components = tuple((l, m) for l, m in all_components(3) if abs(m) <= 1)
    rows = [l * l + l + m for l, m in components]
    rotation = torch.from_numpy(Rotation.from_euler("y", 0.7).as_matrix())
    matrix = torch.block_diag(*[wigner_d(l, rotation) for l in range(4)])[rows][:, rows]
    factors = [f[:, rows] for f in signals(3, 2)]
    turned = grid_product([matrix @ f for f in factors], components)
    torch.testing.assert_close(turned, matrix @ grid_product(factors, components), rtol=0, atol=1e-12)


def test_unit_variance_on_the_grid() -> None:
    """E[f1^2 f2^2] = K^4 for N(0, 1) coefficients, which a division by K for each factor makes 1."""
    generator = torch.Generator().manual_seed(0)
    f1, f2 = torch.randn(2, 2000, 16, 4, generator=generator, dtype=torch.float64)
    wide = [torch.cat([f, f.new_zeros(2000, 49 - 16, 4)], dim=1) for f in (f1, f2)]
    product = grid_product(wide, all_components(6)) - wide[0]  # degree 6 holds all of it
    # K is 7 there; the sum of squares over components is the mean over the sphere
    mean = (product * 7).square().sum(dim=1).mean() / 16**2
    torch.testing.assert_close(mean, torch.tensor(1.0, dtype=torch.float64), rtol=0.05, atol=0)


@pytest.mark.parametrize("count", [2, 3])
def test_derivatives(count: int) -> None:
    factors = [f[:2, :, :1].requires_grad_() for f in signals(1, count)]
    operation = lambda *f: grid_product(f, all_components(1))  # noqa: E731
    assert torch.autograd.gradcheck(operation, factors)
    assert torch.autograd.gradgradcheck(operation, factors)


def test_single_precision() -> None:
    factors, components = signals(3, 3), all_components(3)
    single = grid_product([f.float() for f in factors], components)
    torch.testing.assert_close(single.double(), grid_product(factors, components), rtol=1e-5, atol=1e-5)
