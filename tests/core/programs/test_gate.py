"""The gate of CPU programs against plain torch and its autograd."""

import pytest
import torch
from torch import Tensor

from atomsml.codegen.machine import lanes
from atomsml.ops.activation import silu
from atomsml.programs import gate
from atomsml.programs.plan import Plan


def reference(blocks: list[Tensor], channels: list[int]) -> list[Tensor]:
    scalars, *gates = silu(blocks[0]).split(channels, dim=2)
    return [scalars, *(x * g for x, g in zip(blocks[1:], gates, strict=True))]


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("vectors", [(3, 2, 1), (2,)])
def test_values_and_gradients_are_those_of_autograd(vectors: tuple[int, ...], dtype: torch.dtype) -> None:
    channels = [n * lanes(dtype) for n in vectors]
    generator, atoms = torch.Generator().manual_seed(0), 3

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    x = [random(atoms, 2 * l + 1, c) for l, c in enumerate([sum(channels), *channels[1:]])]
    x[0] *= 20.0  # far to where the gate is open or closed
    g = [random(atoms, 2 * l + 1, c) for l, c in enumerate(channels)]
    exact = [each.double().requires_grad_() for each in x]
    expected = reference(exact, channels)
    gradients = torch.autograd.grad(expected, exact, [each.double() for each in g])

    out = [torch.full_like(each, torch.nan) for each in g]
    scratch = torch.empty(0, dtype=dtype)
    plan = Plan(scratch)
    gate.forward(plan, x, out, atoms)
    gate.backward(plan, x, g, atoms)
    plan.run(scratch)
    for found, wanted in zip([*out, *x], [*expected, *gradients], strict=True):
        tolerance = 20 * torch.finfo(dtype).eps * wanted.abs().max().item()
        torch.testing.assert_close(found.double(), wanted.detach(), rtol=0, atol=tolerance)
