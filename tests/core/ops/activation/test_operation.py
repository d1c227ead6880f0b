"""SiLU of unit second moment: values and derivatives against torch's own."""

import pytest
import torch

from atomsml.ops.activation import SILU_GAIN, silu


def test_silu_has_unit_second_moment() -> None:
    x = torch.randn(1_000_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    # the standard error of a mean of a million squares of order 1 is about 2e-3
    assert silu(x).square().mean().item() == pytest.approx(1.0, abs=8e-3)


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("shape", [(0,), (1,), (7, 16), (5, 37)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-14), (torch.float32, 4e-6)])
def test_value_and_two_derivatives(shape: tuple[int, ...], dtype: torch.dtype, tolerance: float) -> None:
    """Numbers of order 10, each a product of a few factors that are off by one rounding."""
    x = (3 * torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)).to(dtype)
    results = []
    for function in (silu, lambda x: SILU_GAIN * torch.nn.functional.silu(x)):
        z = x.clone().requires_grad_()
        value = function(z)
        (first,) = torch.autograd.grad(value.square().sum(), z, create_graph=True)
        (second,) = torch.autograd.grad(first.sin().sum(), z)
        results.append([value, first, second])
    torch.testing.assert_close(*results, rtol=tolerance, atol=10 * tolerance)


def test_far_from_zero() -> None:
    x = torch.tensor([-1e4, -100.0, 100.0, 1e4], requires_grad=True)
    value = silu(x)
    (first,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    torch.testing.assert_close(value, SILU_GAIN * x.clamp(min=0))
    torch.testing.assert_close(first, SILU_GAIN * (x > 0))
    torch.testing.assert_close(second, torch.zeros(4))


def test_strided_input() -> None:
    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(silu(x.T), silu(x).T, rtol=0, atol=0)


def test_derivatives_by_finite_differences() -> None:
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(silu, (x,))
    assert torch.autograd.gradgradcheck(silu, (x,))


def test_third_derivatives_are_refused() -> None:
    x = torch.randn(4, requires_grad=True)
    (first,) = torch.autograd.grad(silu(x).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="third derivatives"):
        torch.autograd.grad(second.sum(), x)
