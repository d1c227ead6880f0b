"""The Triton kernels of the symmetric contraction against the plain-torch reference."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from atomsml.ops.contraction import ContractionTable, contract, contract_reference
from atomsml.ops.contraction import operation as contraction

pytest.importorskip("triton", reason="triton is not installed; pip install -e .[test]")

pytestmark = pytest.mark.gpu  # elsewhere ops/test_triton.py runs this file in Triton's interpreter
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(autouse=True)
def _kernels_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    from atomsml.ops.contraction import triton as contraction_triton

    monkeypatch.setattr(contraction, "_kernels", lambda device: contraction_triton)


def problem(
    table: ContractionTable, atoms: int, channels: int, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor]:
    """Features and coefficients that require gradients, and species; the second of four has no atoms."""
    generator = torch.Generator().manual_seed(atoms + 100 * channels)
    shapes = ((atoms, table.num_components, channels), (4, len(table.index), channels))
    normal = [torch.randn(shape, generator=generator, dtype=torch.float64).to(DEVICE, dtype) for shape in shapes]
    features, coefficients = (x.requires_grad_() for x in normal)
    return features, coefficients, torch.tensor([3, 0, 3, 2, 0], device=DEVICE)[:atoms]


def training_step(function, features: Tensor, coefficients: Tensor, species: Tensor, table: ContractionTable):  # type: ignore[no-untyped-def]
    """Output, its gradients, and the gradients of a loss on both."""
    variables = (features, coefficients)
    out = function(*variables, species, table)
    first = torch.autograd.grad(out.sin().sum(), variables, create_graph=True)
    second = torch.autograd.grad(sum(x.cos().sum() for x in (*first, out)), variables)
    return [out, *first, *second]


def assert_all_close(ours: list[Tensor], theirs: list[Tensor], tolerance: float) -> None:
    """Relative to the largest entry of each."""
    for one, other in zip(ours, theirs, strict=True):
        assert one.shape == other.shape
        scale = other.detach().abs().amax().item() if other.numel() else 0.0
        torch.testing.assert_close(one.to(other.dtype), other, rtol=0, atol=tolerance * max(1.0, scale))


@pytest.mark.parametrize(
    ("lmax", "correlation", "hidden_lmax", "atoms", "channels"),
    [(1, 3, 1, 3, 5), (1, 2, 0, 1, 33), (2, 2, 0, 2, 16), (1, 1, 1, 5, 1), (1, 2, 1, 0, 3)],
)
def test_values_and_two_derivatives(lmax: int, correlation: int, hidden_lmax: int, atoms: int, channels: int) -> None:
    """Sums of at most some hundred terms; the sines pass rounding errors of the output on unchanged."""
    table = ContractionTable(lmax, correlation, hidden_lmax).to(DEVICE)
    step = problem(table, atoms, channels)
    assert_all_close(training_step(contract, *step, table), training_step(contract_reference, *step, table), 1e-12)


def test_float32_is_close_to_float64_and_equal_to_itself() -> None:
    """Sums of about 30 terms of rounding error 6e-8; the sines of outputs of order 10 make ten times as much of it."""
    table = ContractionTable(lmax=1, correlation=3, hidden_lmax=0).to(DEVICE)
    single = problem(table, 2, 5, torch.float32)
    double = (*(x.detach().double().requires_grad_() for x in single[:2]), single[2])
    ours, again = training_step(contract, *single, table), training_step(contract, *single, table)
    assert all(x.dtype == torch.float32 for x in ours)
    assert all(torch.equal(*pair) for pair in zip(ours, again, strict=True))
    assert_all_close(ours, training_step(contract_reference, *double, table), 30 * 10 * 6e-8)


def test_strided_input_gives_the_same() -> None:
    table = ContractionTable(lmax=1, correlation=2, hidden_lmax=0).to(DEVICE)
    features, coefficients, species = problem(table, 2, 4)
    strided = [
        x.detach().transpose(0, 2).contiguous().transpose(0, 2).requires_grad_() for x in (features, coefficients)
    ]
    assert not any(x.is_contiguous() for x in strided)
    expected = training_step(contract, features, coefficients, species, table)
    ours = training_step(contract, *strided, species.repeat_interleave(2)[::2], table)
    assert all(torch.equal(*pair) for pair in zip(ours, expected, strict=True))
