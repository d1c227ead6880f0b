"""Small kernels on rows of features against torch."""

import pytest
import torch
from torch.nn.functional import silu

from atomsml.codegen.machine import lanes
from atomsml.ops.activation import SILU_GAIN
from atomsml.programs import rows as rows_cpu

DTYPES = (torch.float32, torch.float64)
ATOMS, COMPONENTS = 5, 4


def random(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)), dtype=torch.float64).to(dtype)


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_and_zeros(dtype: torch.dtype) -> None:
    channels = 3 * lanes(dtype)
    x, y = random(ATOMS, channels, dtype=dtype), random(ATOMS, channels, dtype=dtype).flip(0)
    expected = x + y
    rows_cpu.add_kernel(dtype)([x, y], x.numel())
    assert torch.equal(x, expected)
    rows_cpu.zero_kernel(dtype)([x], x.numel() - channels)
    assert not x[:-1].any()
    assert torch.equal(x[-1], expected[-1])
    rows_cpu.zero_scalars_kernel(dtype)([y], 7)
    assert not y.flatten()[:7].any()
    assert y.flatten()[7] != 0


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_of_elements(dtype: torch.dtype) -> None:
    channels = 2 * lanes(dtype)
    x, table = random(ATOMS, COMPONENTS, channels, dtype=dtype), random(3, channels, dtype=dtype)
    species = torch.tensor([2, 0, 1, 1, 2])
    expected = x.clone()
    expected[:, 0] += table[species]
    rows_cpu.add_element_rows_kernel(COMPONENTS, channels, dtype)([species, table, x], ATOMS)
    assert torch.equal(x, expected)


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("dtype", DTYPES)
def test_energies_of_linear_readouts(dtype: torch.dtype) -> None:
    channels = 2 * lanes(dtype)
    x, w = random(ATOMS, COMPONENTS, channels, dtype=dtype), random(channels, dtype=dtype)
    energy = random(ATOMS, dtype=dtype)
    expected = energy + x[:, 0] @ w
    rows_cpu.add_dot_kernel(COMPONENTS, channels, dtype)([x, w, energy], ATOMS)
    eps = torch.finfo(dtype).eps  # twice a bound on the rounding of `channels` terms
    torch.testing.assert_close(
        energy, expected, rtol=0, atol=2 * channels * eps * (x[:, 0].abs() @ w.abs()).max().item()
    )


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("dtype", DTYPES)
def test_energies_of_hidden_readouts_and_their_gradients(dtype: torch.dtype) -> None:
    columns = 16
    x, w = 4 * random(ATOMS, columns, dtype=dtype), random(columns, dtype=dtype)
    x[0, :2] = torch.tensor([-200.0, 200.0])  # exp(200) overflows in float32
    energy = torch.zeros(ATOMS, dtype=dtype)
    exact = x.double().requires_grad_(True)
    expected = (SILU_GAIN * silu(exact)) @ w.double()
    (gradient,) = torch.autograd.grad(expected.sum(), exact)
    rows_cpu.hidden_readout_kernel(columns, dtype)([x, w, energy], ATOMS)
    rounding = columns * torch.finfo(dtype).eps
    largest = (x.abs().max() * w.abs().max() + expected.abs().max()).item()
    torch.testing.assert_close(energy.double(), expected.detach(), rtol=0, atol=rounding * max(largest, 400 * 2))
    torch.testing.assert_close(x.double(), gradient, rtol=0, atol=rounding * gradient.abs().max().item())


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("dtype", DTYPES)
def test_energies_and_gradients_of_elements_are_scaled(dtype: torch.dtype) -> None:
    x, energy, scale = random(ATOMS, 16, dtype=dtype), random(ATOMS, dtype=dtype), random(3, dtype=dtype)
    species = torch.arange(ATOMS) % 3
    expected = x * scale[species][:, None], energy * scale[species]
    rows_cpu.scale_by_element_kernel(16, dtype)([species, scale, x, energy], ATOMS)
    torch.testing.assert_close((x, energy), expected)
