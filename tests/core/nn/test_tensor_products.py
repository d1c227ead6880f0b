"""Each tensor product against its definition, e3nn and the other algorithms."""

import pytest
import torch
from e3nn import o3
from scipy.special import sph_harm_y
from torch import Tensor

from atomsml.nn.edge_frame import EdgeFrames
from atomsml.nn.tensor_products import (
    ClebschGordanProduct,
    FourierGauntProduct,
    GridGauntProduct,
    SO2Product,
    TensorProduct,
    all_paths,
    gaunt_weights,
)
from atomsml.nn.tensor_products.gaunt_convolution import gaunt_convolution
from atomsml.o3 import clebsch_gordan, spherical_harmonics, wigner_d

PAIRS, CHANNELS = 130, 2  # more than one chunk


def features(lmax: int, seed: int = 0, channels: int = CHANNELS, pairs: int = PAIRS) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(pairs, (lmax + 1) ** 2, channels, generator=generator, dtype=torch.float64)


def path_weights(lmax: int, odd: bool = True) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(len(all_paths(lmax, odd)), CHANNELS, generator=generator, dtype=torch.float64)


def harmonics(lmax: int, pairs: int = PAIRS) -> Tensor:
    """Of random directions, the poles and their neighbourhood."""
    directions = torch.randn(pairs, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    directions[:7] = torch.cat([torch.eye(3), -torch.eye(3), torch.tensor([[1e-9, 1.0, 0.0]])])
    return spherical_harmonics(lmax, directions)[..., None]


def definition(product: TensorProduct, x: Tensor, y: Tensor) -> Tensor:
    """sum over paths of w_p sqrt(2 l3 + 1) C_p (x_l1, y_l2)."""
    out = torch.zeros_like(x)
    for (l1, l2, l3), weight in zip(product.paths, product.weights, strict=True):
        coupling = clebsch_gordan(l1, l2, l3) * (2 * l3 + 1) ** 0.5
        pair = x[:, l1 * l1 : (l1 + 1) ** 2], y[:, l2 * l2 : (l2 + 1) ** 2].expand(-1, -1, x.shape[2])
        out[:, l3 * l3 : (l3 + 1) ** 2] += weight * torch.einsum("abo,nac,nbc->noc", coupling, *pair)
    return out


def products(lmax: int) -> list[tuple[TensorProduct, Tensor]]:
    """Every algorithm, with a second operand that it takes."""
    odd, even = all_paths(lmax), all_paths(lmax, odd=False)
    result: list[tuple[TensorProduct, Tensor]] = [
        (ClebschGordanProduct(lmax, odd, path_weights(lmax)), features(lmax, 1)),
        (ClebschGordanProduct(lmax, odd, path_weights(lmax)), features(lmax, 1, channels=1)),
        (GridGauntProduct(lmax), features(lmax, 1)),
        (FourierGauntProduct(lmax), features(lmax, 1)),
    ]
    if lmax > 0:
        result.append((SO2Product(lmax, odd, path_weights(lmax)), harmonics(lmax)))
        result.append((SO2Product(lmax, even, path_weights(lmax, odd=False)), harmonics(lmax)))
    return result


@pytest.mark.parametrize("lmax", [0, 1, 2, 4])
def test_equal_to_the_definition(lmax: int) -> None:
    x = features(lmax)
    for product, y in products(lmax):
        torch.testing.assert_close(product(x, y), definition(product, x, y), rtol=0, atol=1e-11)


def test_equal_to_e3nn() -> None:
    """Odd paths among them; e3nn holds channels outside components, and coefficients of no known sign for some."""
    lmax, paths = 2, all_paths(2)
    x, y = features(lmax), features(lmax, 1)
    irreps = o3.Irreps([(CHANNELS, (l, 1)) for l in range(lmax + 1)])
    instructions = [(l1, l2, l3, "uuu", True, 1.0) for l1, l2, l3 in paths]
    oracle = o3.TensorProduct(
        irreps, irreps, irreps, instructions, path_normalization="none", internal_weights=False, shared_weights=True
    ).double()

    def flat(f: Tensor) -> Tensor:
        return torch.cat([f[:, l * l : (l + 1) ** 2].mT.flatten(1) for l in range(lmax + 1)], dim=1)

    found = ClebschGordanProduct(lmax, paths, path_weights(lmax))(x, y)
    # e3nn holds its coefficients in float32
    torch.testing.assert_close(flat(found), oracle(flat(x), flat(y), path_weights(lmax).flatten()), rtol=0, atol=1e-5)


@pytest.mark.parametrize("algorithm", [GridGauntProduct, FourierGauntProduct])
def test_gaunt_products_multiply_signals(algorithm: type[GridGauntProduct] | type[FourierGauntProduct]) -> None:
    """With signals of degree 2 no part of the product lies beyond degree 4; harmonics from scipy."""
    theta, phi = 0.3 + torch.arange(9).double() / 4, torch.arange(9).double()
    columns = []
    for l in range(5):
        for m in range(-l, l + 1):
            y = torch.from_numpy(sph_harm_y(l, abs(m), theta.numpy(), phi.numpy()))
            part = y.real if m >= 0 else y.imag
            columns.append((4 * torch.pi) ** 0.5 * part * (1 if m == 0 else (-1) ** m * 2**0.5))
    basis = torch.stack(columns, dim=1)  # (angles, components), the polar angle counted from y, the other from z to x
    x, y = (torch.cat([features(2, seed), torch.zeros(PAIRS, 16, CHANNELS)], dim=1) for seed in (0, 1))
    torch.testing.assert_close(basis @ algorithm(4)(x, y), (basis @ x) * (basis @ y), rtol=0, atol=1e-11)


@pytest.mark.parametrize("lmax", [1, 3])
def test_equivariant(lmax: int, rotations: Tensor) -> None:
    x = features(lmax)
    for rotation in rotations[[0, 5, 6]]:
        matrix = torch.block_diag(*[wigner_d(l, rotation) for l in range(lmax + 1)])
        for product, y in products(lmax):
            turned = product(matrix @ x, matrix @ y)
            torch.testing.assert_close(turned, matrix @ product(x, y), rtol=0, atol=1e-11)


def test_parity() -> None:
    """Natural parity is kept by even paths and by them alone."""
    sign = torch.tensor([(-1.0) ** l for l in range(4) for _ in range(2 * l + 1)], dtype=torch.float64)[:, None]
    x = features(3)
    for product, y in products(3):
        kept = torch.allclose(product(sign * x, sign * y), sign * product(x, y), rtol=0, atol=1e-11)
        assert kept == all(sum(path) % 2 == 0 for path in product.paths)


def test_gaunt_weights_vanish_for_odd_paths() -> None:
    paths = all_paths(4)
    for path, weight in zip(paths, gaunt_weights(paths)[:, 0], strict=True):
        assert (weight.abs() < 1e-14) == (sum(path) % 2 == 1)


def test_numbers_of_paths() -> None:
    triangles = [(a, b, c) for c in range(4) for a in range(4) for b in range(4) if abs(a - b) <= c <= a + b]
    assert list(all_paths(3)) == triangles
    assert list(all_paths(3, odd=False)) == [p for p in triangles if sum(p) % 2 == 0]


@pytest.mark.parametrize("lmax", [1, 2])
def test_derivatives(lmax: int) -> None:
    x = features(lmax, pairs=1, channels=1).requires_grad_()
    for product, y in products(lmax):
        y = y[-1:, :, :1].clone().requires_grad_()
        product.weights = product.weights[:, :1].clone().requires_grad_(not isinstance(product, GridGauntProduct))
        if isinstance(product, SO2Product):  # on the sphere alone is it a product with y
            direction = y[:, 1:4, 0].detach().requires_grad_()
            operation = lambda a, v, p=product: p(a, spherical_harmonics(lmax, v)[..., None])  # noqa: E731
            inputs = (x, direction)
        else:
            operation, inputs = product.__call__, (x, y)
        assert torch.autograd.gradcheck(operation, inputs, fast_mode=True)
        assert torch.autograd.gradgradcheck(operation, inputs, fast_mode=True)


def test_single_precision() -> None:
    x = features(3)
    for product, y in products(3):
        single = product(x.float(), y.float())
        assert single.dtype == torch.float32
        torch.testing.assert_close(single.double(), product(x, y), rtol=1e-4, atol=1e-4)


def test_refuses_weights_of_other_paths() -> None:
    with pytest.raises(ValueError, match="give one row for each path"):
        ClebschGordanProduct(1, all_paths(1), torch.ones(4, 1))


def weighted_harmonics(lmax: int) -> tuple[Tensor, Tensor, Tensor]:
    """Harmonics of directions, factors w_l for each pair and channel, and their products."""
    y, w = harmonics(lmax), features(lmax, 3)[:, : lmax + 1]
    by_degree = y.split([2 * l + 1 for l in range(lmax + 1)], dim=1)
    return y, w, torch.cat([each * w[:, l : l + 1] for l, each in enumerate(by_degree)], dim=1)


@pytest.mark.parametrize("lmax", [1, 2, 5])
def test_gaunt_convolution_is_the_product_on_the_sphere(lmax):
    x = features(lmax)
    y, w, filters = weighted_harmonics(lmax)
    frames = EdgeFrames.from_vectors(y[:, 1:4, 0], lmax, lmax)
    found = gaunt_convolution(x, w, frames)
    even = all_paths(lmax, odd=False)
    coupled = ClebschGordanProduct(lmax, even, gaunt_weights(even).expand(-1, CHANNELS))
    torch.testing.assert_close(found, definition(coupled, x, filters), rtol=0, atol=1e-11)
    torch.testing.assert_close(found, GridGauntProduct(lmax)(x, filters), rtol=0, atol=1e-11)


def test_about_its_direction_a_filter_has_order_zero_alone():
    y, _, filters = weighted_harmonics(3)
    frames = EdgeFrames.from_vectors(y[:, 1:4, 0], 3, 3)
    turned = frames.rotate_in(filters, torch.arange(PAIRS))
    assert turned[:, :4].abs().amin(dim=(0, 2)).min() > 1e-4  # rows of m = 0
    assert turned[:, 4:].abs().max() < 1e-12


def test_gaunt_convolution_wants_all_orders():
    frames = EdgeFrames.from_vectors(torch.randn(3, 3), 2, 1)
    with pytest.raises(ValueError, match="all orders up to 2"):
        gaunt_convolution(torch.randn(3, 9, 1), torch.randn(3, 3, 1), frames)
