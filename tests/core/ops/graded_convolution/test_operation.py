"""The convolution of graded features against e3nn's tensor product and against a padded plain-torch convolution."""

from __future__ import annotations

import pytest
import torch
from e3nn import o3
from torch import Tensor

from atomsml.o3 import clebsch_gordan
from atomsml.ops.convolution import Edges, convolution_table, convolve, convolve_reference
from atomsml.ops.graded_convolution import GradedTable, graded_convolve, graded_table

RECEIVER = torch.tensor([1, 2, 2, 2, 4, 4, 4, 4, 4])
SENDER = torch.tensor([0, 1, 3, 4, 0, 1, 2, 3, 4])
WEIGHT_ROW = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3, 4])
EDGES = Edges.from_index(torch.stack([SENDER, RECEIVER]), 5, WEIGHT_ROW)
SHAPES = [((6, 4, 2), 2, 2), ((5, 5, 2), 2, 2), ((3, 3), 3, 2), ((4, 2), 2, 0), ((3,), 2, 2)]


def operands(table: GradedTable, lmax: int) -> tuple[list[Tensor], Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    blocks = [normal(5, 2 * l + 1, c) for l, c in enumerate(table.channels)]
    return blocks, normal(len(SENDER), (lmax + 1) ** 2), normal(5, table.num_weights)


def by_path(table: GradedTable, out: list[Tensor]) -> list[Tensor]:
    return [out[path[2]][:, :, table.out_columns(path)] for path in table.paths]


def definition(blocks: list[Tensor], harmonics: Tensor, weights: Tensor, table: GradedTable) -> list[Tensor]:
    """The sum over edges of C h Y R, path by path."""
    found = []
    for path in table.paths:
        l1, l2, l3 = path
        coefficients = clebsch_gordan(l1, l2, l3) * (2 * l3 + 1) ** 0.5
        y = harmonics[:, l2 * l2 : (l2 + 1) ** 2]
        r = weights[WEIGHT_ROW][:, table.weight_columns(path)]
        messages = torch.einsum("abo,eac,eb,ec->eoc", coefficients, blocks[l1][SENDER], y, r)
        found.append(messages.new_zeros(5, *messages.shape[1:]).index_add(0, RECEIVER, messages))
    return found


@pytest.mark.parametrize("odd_paths", [False, True])
@pytest.mark.parametrize(("channels", "lmax", "lmax_out"), SHAPES)
def test_equals_its_definition_with_first_derivatives(
    channels: tuple[int, ...], lmax: int, lmax_out: int, odd_paths: bool
) -> None:
    table = graded_table(channels, lmax, lmax_out, odd_paths)
    results = []
    for exact in (False, True):
        blocks, y, r = operands(table, lmax)
        out = definition(blocks, y, r, table) if exact else by_path(table, graded_convolve(blocks, y, r, EDGES, table))
        # where no path uses a block, its gradient is zero
        total = sum(x.sin().sum() for x in out)
        results.append([*out, *torch.autograd.grad(total, (*blocks, y, r), materialize_grads=True)])
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("odd_paths", [False, True])
def test_equals_the_tensor_product_of_e3nn(odd_paths: bool) -> None:
    """With odd paths all irreps are even, as in SevenNet."""
    channels, table = (4, 3, 1), graded_table((4, 3, 1), 2, 2, odd_paths)
    parity = 1 if odd_paths else -1
    blocks, y, r = operands(table, 2)
    irreps_h = o3.Irreps([(c, (l, parity**l)) for l, c in enumerate(channels)])
    irreps_out = o3.Irreps([(channels[l1], (l3, parity**l3)) for l1, _, l3 in table.paths])
    product = o3.TensorProduct(
        irreps_h,
        o3.Irreps.spherical_harmonics(2, parity),
        irreps_out,
        [(l1, l2, i, "uvu", True) for i, (l1, l2, _) in enumerate(table.paths)],
        shared_weights=False,
        internal_weights=False,
    ).double()
    # e3nn holds channels outside components: (channels, 2l + 1) per irrep
    flat = torch.cat([h.transpose(1, 2).flatten(1) for h in blocks], dim=1)
    columns = [column for path in table.paths for column in table.weight_columns(path)]
    messages = product(flat[SENDER], y, r[WEIGHT_ROW][:, columns])
    summed = torch.zeros(5, irreps_out.dim, dtype=torch.float64).index_add(0, RECEIVER, messages)
    expected = [
        summed[:, part].view(5, channels[l1], 2 * l3 + 1).transpose(1, 2)
        for part, (l1, _, l3) in zip(irreps_out.slices(), table.paths, strict=True)
    ]
    # e3nn holds its coefficients in float32: each of the products of a sum is off by 6e-8 of itself
    found = by_path(table, graded_convolve(blocks, y, r, EDGES, table))
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("odd", [False, True])
def test_kernels_of_odd_paths_to_second_order(odd: bool) -> None:
    table = convolution_table(2, 2, 2, odd)
    assert any(sum(path) % 2 for path in table.paths) is odd
    generator = torch.Generator().manual_seed(2)
    shapes = (5, 9, 17), (len(SENDER), 9), (5, len(table.paths), 17)
    found = []
    for function in (convolve, convolve_reference):
        generator.manual_seed(2)
        h, y, r = (torch.randn(*s, generator=generator, dtype=torch.float64).requires_grad_() for s in shapes)
        out = function(h, y, r, EDGES, table)
        first = torch.autograd.grad(sum(x.sin().sum() for x in out), (h, y, r), create_graph=True)
        second = torch.autograd.grad(sum(x.cos().sum() for x in first), (h, y, r))
        found.append([*out, *first, *second])
    # sums of some hundred products of numbers up to 1e2
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-10)


def test_second_derivatives() -> None:
    table = graded_table((3, 1), 1, 1, True)
    blocks, y, r = operands(table, 1)

    def function(*inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(graded_convolve(inputs[:2], *inputs[2:], EDGES, table))

    assert torch.autograd.gradgradcheck(function, (*blocks, y, r))


@pytest.mark.parametrize(("channels", "lmax_out"), [((2, 3), 2), ((), 2), ((2, 0), 2), ((2,), 3)])
def test_shapes_that_cannot_be_are_refused(channels: tuple[int, ...], lmax_out: int) -> None:
    with pytest.raises(ValueError, match="must"):
        graded_table(channels, 2, lmax_out)
