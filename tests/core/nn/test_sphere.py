"""The point-wise network on the sphere: what it computes at points, its symmetries and its scale."""

import pytest
import torch
from scipy.integrate import lebedev_rule
from scipy.spatial.transform import Rotation
from torch import Tensor

from atomsml.nn.edge_frame import edge_components
from atomsml.nn.sphere import GridMLP, on_grid
from atomsml.o3 import spherical_harmonics, wigner_d
from atomsml.o3.s2_grid import Components, S2Grid, all_components

IN, HIDDEN, OUT = 5, 6, 4


def make(components: Components, order: int, dtype: torch.dtype = torch.float64) -> GridMLP:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return GridMLP(components, IN, HIDDEN, OUT, order).to(dtype)


def features(components: Components, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(7, len(components), IN, generator=generator, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("order", [1, 2])
def test_acts_point_by_point(order):
    """Signals of l <= 1, whose products of two have l <= 2: nothing is cut off, so that any point will do."""
    components = all_components(2)
    layer, x = make(components, order), features(components)
    x[:, 4:] = 0
    points = torch.randn(20, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    harmonics = spherical_harmonics(2, points) / 3  # of unit variance for 9 components
    signals = torch.einsum("pi,nic,cd->npd", harmonics, x, layer.signals) / IN**0.5
    first, second = signals[..., :HIDDEN], signals[..., HIDDEN:]
    new, gates = layer.scalars(x[:, 0]).split([OUT, HIDDEN], dim=1)
    product = first * (2 / (1 + torch.exp(-gates)))[:, None] * (1 if order == 1 else 1 + second)
    expected = torch.linalg.pinv(harmonics) @ (product @ layer.out / (order * HIDDEN) ** 0.5)
    expected[:, 0] = (expected[:, 0] + new) / 2**0.5
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 1e-5)])
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("parity", [1, -1])
def test_equivariant(order, parity, dtype, tolerance):
    components = all_components(3)
    rotation = parity * torch.from_numpy(Rotation.random(random_state=3).as_matrix())
    matrix = torch.block_diag(*[wigner_d(l, rotation) for l in range(4)]).to(dtype)
    layer, x = make(components, order, dtype), features(components, dtype)
    expected = matrix @ layer(x)
    torch.testing.assert_close(layer(matrix @ x), expected, rtol=0, atol=tolerance * expected.abs().max().item())


@pytest.mark.parametrize("mirror", [1, -1])
def test_truncated_orders_turn_about_the_polar_axis(mirror):
    components = edge_components(4, 2)
    rows = [l * l + l + m for l, m in components]
    rotation = torch.from_numpy(Rotation.from_euler("y", 0.7).as_matrix() * [mirror, 1, 1])
    matrix = torch.block_diag(*[wigner_d(l, rotation) for l in range(5)])[rows][:, rows]
    layer, x = make(components, 2), features(components)
    expected = matrix @ layer(x)
    torch.testing.assert_close(layer(matrix @ x), expected, rtol=0, atol=1e-13 * expected.abs().max().item())


def test_zero_gives_zero():
    components = all_components(2)
    assert make(components, 2)(torch.zeros_like(features(components))).abs().max() == 0


@pytest.mark.parametrize("components", [all_components(1), all_components(3), edge_components(4, 2)], ids=len)
@pytest.mark.parametrize("order", [1, 2, 3])
def test_keeps_the_variance(components, order):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = GridMLP(components, 64, 64, 64, order)
        variance = layer(torch.randn(256, len(components), 64)).var(dim=(0, 2))
    assert 0.7 < variance.min() <= variance.max() < 1.5, variance


def test_refuses_what_cannot_be():
    with pytest.raises(ValueError, match="first component must be the scalar"):
        GridMLP(all_components(2)[1:], IN, HIDDEN, OUT)
    with pytest.raises(ValueError, match="order is 0"):
        GridMLP(all_components(2), IN, HIDDEN, OUT, 0)


@pytest.mark.parametrize("rule", ["gauss-legendre", "equiangular"])
@pytest.mark.parametrize("components", [all_components(2), edge_components(3, 1)], ids=len)
def test_on_a_grid_projects_the_values_of_any_function(rule, components):
    """The projection of silu(f) W against a Lebedev rule, which knows neither latitudes nor longitudes."""
    mapping = torch.randn(IN, OUT, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    points, weights = lebedev_rule(131)
    harmonics = spherical_harmonics(3, torch.from_numpy(points.T.copy()))[:, [l * l + l + m for l, m in components]]
    x = 0.3 * features(components)
    values = torch.nn.functional.silu(harmonics @ x) @ mapping
    expected = (harmonics * torch.from_numpy(weights / weights.sum())[:, None]).T @ values
    grid = S2Grid(components, latitudes=80, longitudes=81, rule=rule)
    found = on_grid(x, grid, lambda values: torch.nn.functional.silu(values) @ mapping)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("rule", ["gauss-legendre", "equiangular"])
def test_on_a_grid_is_the_more_equivariant_the_more_points(rule):
    components = all_components(2)
    rotation = torch.from_numpy(Rotation.random(random_state=3).as_matrix())
    matrix, x = torch.block_diag(*[wigner_d(l, rotation) for l in range(3)]), features(components)
    errors = []
    for n in (6, 12, 24, 48):
        grid = S2Grid(components, latitudes=n, longitudes=n + 1, rule=rule)
        there, back = (on_grid(v, grid, torch.nn.functional.silu) for v in (matrix @ x, x))
        errors.append((there - matrix @ back).abs().max().item())
    assert errors == sorted(errors, reverse=True), errors
    assert errors[0] > 1e-2
    assert errors[-1] < 1e-3 * errors[0]
