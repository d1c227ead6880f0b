"""Scales and gates in the frames of edges: kernels against torch's own operations, and their derivatives."""

import pytest
import torch
from torch import Tensor

from atomsml.ops.edge_gate import gate, gate_reference, scale, scale_reference

DEGREES = (0, 1, 2, 1, 2, 1, 2)  # of the components of lmax = 2, mmax = 1
OF = (0, 1, 2, 3, 4, 3, 4)
ROW = torch.tensor([0, 2, 2, 1, 0])


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("channels", [1, 5, 16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_are_what_they_are_called(channels: int, dtype: torch.dtype) -> None:
    x, s = random(5, 7, channels).to(dtype), random(3, 5, channels, seed=1).to(dtype)
    for found in (scale(x, s, ROW, OF), scale_reference(x, s, ROW, OF)):
        torch.testing.assert_close(found, torch.stack([x[:, k] * s[ROW, q] for k, q in enumerate(OF)], dim=1))
    for found in (gate(x, DEGREES), gate_reference(x, DEGREES)):
        expected = [x[:, k] * (1 + torch.tanh(x[:, l] / 2)) for k, l in enumerate(DEGREES)]
        torch.testing.assert_close(found, torch.stack(expected, dim=1))


@pytest.mark.usefixtures("both_ways")
def test_derivatives() -> None:
    x, s = random(5, 7, 2).requires_grad_(), random(3, 5, 2, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, s: scale(x, s, ROW, OF), (x, s), fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda x, s: scale(x, s, ROW, OF), (x, s), fast_mode=True)
    assert torch.autograd.gradcheck(lambda x: gate(x, DEGREES), (x,), fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda x: gate(x, DEGREES), (x,), fast_mode=True)


def test_third_derivatives_are_refused() -> None:
    x = random(5, 7, 2).requires_grad_()
    first = torch.autograd.grad(gate(x, DEGREES).sum(), x, create_graph=True)[0]
    second = torch.autograd.grad(first.square().sum(), x, create_graph=True)[0]
    with pytest.raises(NotImplementedError, match="no third derivatives"):
        torch.autograd.grad(second.sum(), x)
