"""The gated product of CPU programs against the operation of nn/sphere.py and its autograd."""

import math

import pytest
import torch
from torch import Tensor

from atomsml.codegen.machine import lanes
from atomsml.o3.s2_grid import all_components
from atomsml.ops.grid_product import grid_product
from atomsml.programs import gated_product
from atomsml.programs.plan import NUMBER, Plan, Rows


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("lmax", [0, 2])
def test_values_and_gradients_are_those_of_autograd(lmax: int, dtype: torch.dtype) -> None:
    generator, atoms, channels, size = torch.Generator().manual_seed(0), 5, 2 * lanes(dtype), (lmax + 1) ** 2

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    x, y, q = random(atoms, size, channels), random(atoms, size, channels), random(atoms, 1, channels)
    exact = [each.double().requires_grad_() for each in (x, y, q)]
    expected = grid_product([exact[0] * 2 * torch.sigmoid(exact[2]), exact[1]], all_components(lmax))
    g = random(atoms, size, channels)
    gradients = torch.autograd.grad(expected, exact, g.double())

    out, scratch = torch.full_like(x, torch.nan), torch.empty(0, dtype=dtype)
    plan = Plan(scratch, chunk=2)
    gated_product.forward(plan, Rows(x), Rows(y), Rows(q), Rows(out), NUMBER)
    gated_product.backward(plan, Rows(x), Rows(y), Rows(q), Rows(g), NUMBER)
    plan.run(scratch, 0, atoms)
    for found, wanted in zip((out, x, y, q), (expected, *gradients), strict=True):
        tolerance = 20 * math.sqrt(size) * torch.finfo(dtype).eps * wanted.abs().max().item()
        torch.testing.assert_close(found.double(), wanted.detach(), rtol=0, atol=tolerance)
