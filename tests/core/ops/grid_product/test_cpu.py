"""The kernel of products of two signals against Clebsch-Gordan coefficients, the grid, and finite differences."""

import math

import pytest
import torch
from e3nn import o3
from torch import Tensor

from atomsml.nn.edge_frame import edge_components
from atomsml.o3.s2_grid import all_components
from atomsml.ops.grid_product import grid_product
from atomsml.ops.grid_product.operation import product_of_two
from atomsml.ops.grid_product.table import gaunt_coefficients


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def test_coefficients_are_those_of_e3nn() -> None:
    """sqrt((2 l1 + 1)(2 l2 + 1)(2 l3 + 1)) (l1 l2 l3; 0 0 0) times the real 3j symbol, as e3nn has it."""
    gaunt = gaunt_coefficients(all_components(3))
    for l1 in range(4):
        for l2 in range(4):
            for l3 in range(4):
                block = gaunt[l1 * l1 : (l1 + 1) ** 2, l2 * l2 : (l2 + 1) ** 2, l3 * l3 : (l3 + 1) ** 2]
                if l3 < abs(l1 - l2) or l3 > l1 + l2:
                    expected = torch.zeros_like(block)
                else:
                    symbol = o3.wigner_3j(l1, l2, l3, dtype=torch.float64)
                    size = math.sqrt((2 * l1 + 1) * (2 * l2 + 1) * (2 * l3 + 1))
                    expected = size * symbol[l1, l2, l3] * symbol  # of order m = 0, the zeros of the 3j symbol
                torch.testing.assert_close(block, expected, rtol=0, atol=1e-6)  # e3nn's are precise to 1e-7


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("components", [all_components(0), all_components(2), edge_components(4, 1)], ids=len)
@pytest.mark.parametrize("channels", [1, 5, 16])
def test_product_is_that_on_the_grid(components, channels, dtype, tolerance) -> None:
    x, y = (random(7, len(components), channels, seed=seed, dtype=dtype) for seed in (0, 1))
    expected = (grid_product([x, y], components) - x) * math.sqrt(len(components))
    torch.testing.assert_close(product_of_two(x, y, components), expected, rtol=0, atol=tolerance * len(components))


@pytest.mark.usefixtures("both_ways")
def test_derivatives() -> None:
    components = all_components(2)
    inputs = [random(2, 9, 3, seed=seed).requires_grad_() for seed in (0, 1)]
    assert torch.autograd.gradcheck(lambda x, y: product_of_two(x, y, components), inputs)
    assert torch.autograd.gradgradcheck(lambda x, y: product_of_two(x, y, components), inputs)
    assert torch.autograd.gradgradcheck(lambda x: product_of_two(x, x, components), inputs[:1])


def test_nothing_to_multiply() -> None:
    assert product_of_two(torch.zeros(0, 4, 3), torch.zeros(0, 4, 3), all_components(1)).shape == (0, 4, 3)
