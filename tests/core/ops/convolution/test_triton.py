"""The Triton kernels of the convolution against the plain-torch reference."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from atomsml.ops.convolution import ConvolutionTable, Edges, convolution_table, convolve, convolve_reference
from atomsml.ops.convolution import operation as convolution

pytest.importorskip("triton", reason="triton is not installed; pip install -e .[test]")

pytestmark = pytest.mark.gpu  # elsewhere ops/test_triton.py runs this file in Triton's interpreter
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# atoms that receive nothing, from one neighbour, and from three; one that sends nothing
RECEIVER = torch.tensor([1, 3, 3, 3], device=DEVICE)
SENDER = torch.tensor([0, 1, 3, 0], device=DEVICE)
WEIGHT_ROW = torch.tensor([3, 0, 3, 3], device=DEVICE)  # edges share their weights, and one row serves no edge
EDGES = Edges.from_index(torch.stack([SENDER, RECEIVER]), 4, WEIGHT_ROW)


@pytest.fixture(autouse=True)
def _kernels_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    from atomsml.ops.convolution import triton as convolution_triton

    monkeypatch.setattr(convolution, "_kernels", lambda device: convolution_triton)


def operands(table: ConvolutionTable, channels: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(channels)
    shapes = ((4, table.dim_in, channels), (len(SENDER), table.dim_harmonics), (4, len(table.paths), channels))
    normal = [torch.randn(shape, generator=generator, dtype=torch.float64).to(DEVICE, dtype) for shape in shapes]
    return [x.requires_grad_() for x in normal]


def training_step(function, operands: list[Tensor], table: ConvolutionTable) -> list[Tensor]:  # type: ignore[no-untyped-def]
    """Output, its gradients, and the gradients of a loss on both."""
    out = function(*operands, EDGES, table)
    first = torch.autograd.grad(sum(x.sin().sum() for x in out), operands, create_graph=True)
    second = torch.autograd.grad(sum(x.cos().sum() for x in (*first, *out)), operands)
    return [*out, *first, *second]


@pytest.mark.parametrize(
    ("lmax_in", "lmax", "lmax_out", "channels"), [(0, 0, 0, 1), (0, 1, 1, 33), (1, 2, 2, 5), (2, 1, 1, 16)]
)
def test_values_and_two_derivatives(lmax_in: int, lmax: int, lmax_out: int, channels: int) -> None:
    """Sums of at most some hundred products of numbers of order 1."""
    table = convolution_table(lmax_in, lmax, lmax_out)
    ours = training_step(convolve, operands(table, channels), table)
    expected = training_step(convolve_reference, operands(table, channels), table)
    torch.testing.assert_close(ours, expected, rtol=1e-13, atol=1e-13)


def test_float32_is_close_to_float64_and_equal_to_itself() -> None:
    """At most 3 edges times 10 products of numbers of order 1, each rounded to 6e-8."""
    table = convolution_table(1, 1, 1)
    single = training_step(convolve, operands(table, 5, torch.float32), table)
    again = training_step(convolve, operands(table, 5, torch.float32), table)
    double = training_step(convolve_reference, operands(table, 5), table)
    for one, other, expected in zip(single, again, double, strict=True):
        assert one.dtype == torch.float32
        assert torch.equal(one, other)
        torch.testing.assert_close(one.double(), expected, rtol=0, atol=100 * 6e-8 * expected.abs().max().item())


def test_non_contiguous_operands() -> None:
    table = convolution_table(0, 1, 1)
    h, y, r = (x.detach() for x in operands(table, 4))
    strided = [x.transpose(0, -1).contiguous().transpose(0, -1).requires_grad_() for x in (h, y, r)]
    assert not any(x.is_contiguous() for x in strided)
    expected = training_step(convolve, [x.requires_grad_() for x in (h, y, r)], table)
    torch.testing.assert_close(training_step(convolve, strided, table), expected, rtol=0, atol=0)


@pytest.mark.parametrize("atoms", [0, 1])
def test_no_edges(atoms: int) -> None:
    table = convolution_table(1, 1, 1)
    shapes = ((atoms, 4, 6), (0, 4), (0, len(table.paths), 6))
    h, y, r = (torch.ones(shape, device=DEVICE).requires_grad_() for shape in shapes)
    edges = Edges.from_index(torch.zeros(2, 0, dtype=torch.int64, device=DEVICE), atoms)
    scalars, vectors = convolve(h, y, r, edges, table)
    assert scalars.shape == (atoms, 1, 2 * 6)
    assert vectors.shape == (atoms, 3, 2 * 6)
    assert not scalars.any()
    assert not vectors.any()
    grad_h, grad_y, grad_r = torch.autograd.grad(scalars.sum() + vectors.sum(), (h, y, r))
    assert not grad_h.any()
    assert grad_y.shape == y.shape
    assert grad_r.shape == r.shape


def test_one_atom_that_is_its_own_neighbour() -> None:
    table = convolution_table(1, 1, 1)
    edges = Edges.from_index(torch.zeros(2, 2, dtype=torch.int64, device=DEVICE), 1)
    h, y, r = (x.detach() for x in operands(table, 3))
    arguments = (h[:1], y[:2], r[:2], edges, table)
    torch.testing.assert_close(convolve(*arguments), convolve_reference(*arguments), rtol=1e-13, atol=1e-13)
