"""The convolution against e3nn's tensor product, and its kernels against the plain-torch reference."""

from __future__ import annotations

import pytest
import torch
from e3nn import o3
from torch import Tensor

from atomsml.neighbors import neighbor_list
from atomsml.ops.convolution import ConvolutionTable, Edges, convolution_table, convolve, convolve_reference, edge_pairs

# rows: a receiver without edges, one with a single edge, and ragged others
RECEIVER = torch.tensor([1, 2, 2, 2, 4, 4, 4, 4, 4])
SENDER = torch.tensor([0, 1, 3, 4, 0, 1, 2, 3, 4])
WEIGHT_ROW = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3, 4])  # some edges share their weights
EDGES = Edges.from_index(torch.stack([SENDER, RECEIVER]), 5, WEIGHT_ROW)


def operands(
    table: ConvolutionTable, lmax_in: int, lmax: int, channels: int, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = (
        (5, (lmax_in + 1) ** 2, channels),
        (len(SENDER), (lmax + 1) ** 2),
        (5, len(table.paths), channels),
    )
    h, y, r = (torch.randn(s, generator=generator, dtype=torch.float64).to(dtype).requires_grad_() for s in shapes)
    return h, y, r


def test_paths_have_the_order_of_mace() -> None:
    expected = ["000", "110", "011", "101", "121", "022", "112", "132", "033", "123"]
    assert ["".join(map(str, path)) for path in convolution_table(1, 3, 3).paths] == expected


def test_reference_equals_the_tensor_product_of_e3nn() -> None:
    channels, table = 3, convolution_table(1, 2, 2)
    h, y, r = operands(table, 1, 2, channels)
    irreps_h, irreps_y = o3.Irreps([(channels, (l, (-1) ** l)) for l in (0, 1)]), o3.Irreps.spherical_harmonics(2)
    irreps_out = o3.Irreps([(channels, (l3, (-1) ** l3)) for _, _, l3 in table.paths])
    product = o3.TensorProduct(
        irreps_h,
        irreps_y,
        irreps_out,
        [(l1, l2, i, "uvu", True) for i, (l1, l2, _) in enumerate(table.paths)],
        shared_weights=False,
        internal_weights=False,
    ).double()
    # e3nn holds channels outside components: (channels, 2l + 1) per irrep
    flat = torch.cat([h[:, l * l : (l + 1) ** 2].transpose(1, 2).flatten(1) for l in (0, 1)], dim=1)
    edge_messages = product(flat[SENDER], y, r[WEIGHT_ROW].flatten(1))
    summed = torch.zeros(5, irreps_out.dim, dtype=torch.float64).index_add(0, RECEIVER, edge_messages)
    irreps = summed.split([channels * (2 * p[2] + 1) for p in table.paths], dim=1)
    expected = [
        torch.cat([irreps[p].view(5, channels, 2 * l3 + 1).transpose(1, 2) for p in paths], dim=2)
        for l3, paths in table.by_degree.items()
    ]
    # e3nn holds its coefficients in float32: each of the products of a sum is off by 6e-8 of itself
    torch.testing.assert_close(convolve_reference(h, y, r, EDGES, table), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("lmax_in", "lmax", "channels"), [(0, 2, 5), (1, 1, 1), (1, 1, 19), (1, 2, 8)])
def test_kernel_equals_the_reference_with_first_derivatives(lmax_in: int, lmax: int, channels: int) -> None:
    table = convolution_table(lmax_in, lmax, lmax)
    found, expected = [], []
    for function, results in ((convolve, found), (convolve_reference, expected)):
        h, y, r = operands(table, lmax_in, lmax, channels)
        out = function(h, y, r, EDGES, table)
        results += [*out, *torch.autograd.grad(sum(x.sin().sum() for x in out), (h, y, r))]
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("both_ways")
def test_second_derivatives() -> None:
    table = convolution_table(1, 1, 1)
    h, y, r = operands(table, 1, 1, 3)

    def function(h: Tensor, y: Tensor, r: Tensor) -> tuple[Tensor, ...]:
        return tuple(convolve(h, y, r, EDGES, table))

    assert torch.autograd.gradcheck(function, (h, y, r))
    assert torch.autograd.gradgradcheck(function, (h, y, r))


def test_double_backward_equals_the_reference() -> None:
    table = convolution_table(0, 2, 2)
    found, expected = [], []
    for function, results in ((convolve, found), (convolve_reference, expected)):
        h, y, r = operands(table, 0, 2, 17)
        out = function(h, y, r, EDGES, table)
        first = torch.autograd.grad(sum(x.sin().sum() for x in out), (h, y, r), create_graph=True)
        results += torch.autograd.grad(sum(x.cos().sum() for x in first), (h, y, r))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_float32_is_close_to_float64() -> None:
    table = convolution_table(1, 1, 1)
    double = torch.cat(convolve(*operands(table, 1, 1, 8), EDGES, table), dim=1)
    single = torch.cat(convolve(*operands(table, 1, 1, 8, torch.float32), EDGES, table), dim=1)
    assert single.dtype == torch.float32
    # at most 5 edges x 9 products of numbers of order 1, each rounded to 6e-8
    torch.testing.assert_close(single.double(), double, rtol=0, atol=50 * 6e-8 * double.abs().max().item())


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("atoms", [0, 3])
def test_no_edges(atoms: int) -> None:
    table = convolution_table(1, 1, 1)
    h, y, r = torch.randn(atoms, 4, 6), torch.randn(0, 4), torch.randn(0, len(table.paths), 6)
    edges = Edges.from_index(torch.zeros(2, 0, dtype=torch.int64), atoms)
    scalars, vectors = convolve(h.requires_grad_(), y, r, edges, table)
    assert scalars.shape == (atoms, 1, 2 * 6)
    assert vectors.shape == (atoms, 3, 2 * 6)
    assert not scalars.any()
    assert not vectors.any()
    (gradient,) = torch.autograd.grad(scalars.sum() + vectors.sum(), h)
    assert not gradient.any()


def test_non_contiguous_operands() -> None:
    table = convolution_table(1, 1, 1)
    h, y, r = operands(table, 1, 1, 4)
    strided = h.transpose(1, 2).contiguous().transpose(1, 2)
    assert not strided.is_contiguous()
    torch.testing.assert_close(convolve(strided, y, r, EDGES, table), convolve(h, y, r, EDGES, table))


def test_third_derivatives_are_refused() -> None:
    """Dropping them in silence would be wrong without anybody noticing."""
    table = convolution_table(1, 1, 1)
    h, y, r = operands(table, 1, 1, 2)
    out = sum(x.sin().sum() for x in convolve(h, y, r, EDGES, table))
    (first,) = torch.autograd.grad(out, h, create_graph=True)
    (second,) = torch.autograd.grad(first.cos().sum(), h, create_graph=True)
    with pytest.raises(NotImplementedError, match="third derivatives"):
        torch.autograd.grad(second.sum(), h)


@pytest.mark.parametrize("periodic", [False, True])
def test_pairs_are_the_two_directions_of_one_distance(periodic: bool) -> None:
    generator = torch.Generator().manual_seed(2)
    positions = torch.rand(12, 3, generator=generator, dtype=torch.float64) * 4
    cell, pbc = torch.eye(3, dtype=torch.float64)[None] * 4, torch.full((1, 3), periodic)
    # small enough a cell that atoms see their own images, and the same neighbour through several
    edge_index, offsets = neighbor_list(positions, cell, pbc, 4.5, torch.zeros(12, dtype=torch.int64))
    pair, first = edge_pairs(edge_index, offsets)
    vectors = positions[edge_index[0]] + offsets.double() @ cell[0] - positions[edge_index[1]]
    assert torch.equal(pair.bincount(), torch.full((len(pair) // 2,), 2))
    assert torch.equal(pair[first], torch.arange(len(first)))
    torch.testing.assert_close(
        torch.zeros(len(first), 3, dtype=torch.float64).index_add(0, pair, vectors), torch.zeros(len(first), 3).double()
    )


def test_an_edge_without_its_opposite_is_a_pair() -> None:
    edge_index = torch.tensor([[1, 2, 0], [0, 0, 1]])
    pair, first = edge_pairs(edge_index, torch.zeros(3, 3, dtype=torch.int64))
    assert pair.tolist() == [0, 1, 0]
    assert first.tolist() == [0, 1]
