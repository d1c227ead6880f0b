"""The convolution of features with both parities against e3nn's tensor product, which knows them by name."""

from __future__ import annotations

import pytest
import torch
from e3nn import o3
from torch import Tensor

from atomsml.ops.convolution import Edges
from atomsml.ops.graded_convolution import parity_convolve, parity_table

RECEIVER = torch.tensor([1, 2, 2, 2, 4, 4, 4, 4, 4])
SENDER = torch.tensor([0, 1, 3, 4, 0, 1, 2, 3, 4])
EDGES = Edges.from_index(torch.stack([SENDER, RECEIVER]), 5)
# natural, pseudo, lmax, lmax_out; the first, second, third and last layer of a network, and harmonics of more degrees
SHAPES = [
    ((5,), (), 2, 2),
    ((4, 3, 1), (), 2, 2),
    ((4, 3, 1), (3, 1), 2, 2),
    ((4, 3, 1), (3, 1, 4), 2, 2),
    ((4, 3, 1), (3, 1, 4), 2, 0),
    ((3, 2), (2, 3), 3, 1),
]


@pytest.mark.parametrize(("natural", "pseudo", "lmax", "lmax_out"), SHAPES)
def test_equals_the_tensor_product_of_e3nn(
    natural: tuple[int, ...], pseudo: tuple[int, ...], lmax: int, lmax_out: int
) -> None:
    table = parity_table(natural, pseudo, lmax, lmax_out)
    inputs = [
        *((l, (-1) ** l) for l in range(len(natural))),
        *((l, -((-1) ** l)) for l in [*range(1, len(natural)), 0][: len(pseudo)]),
    ][: len(table.channels)]
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    blocks = [normal(5, 2 * l + 1, c) for (l, _), c in zip(inputs, table.channels, strict=True)]
    y, r = normal(len(SENDER), (lmax + 1) ** 2), normal(len(SENDER), table.num_weights)
    out = parity_convolve(blocks, y, r, EDGES, table)
    degrees = [*range(lmax_out + 1), *range(1, lmax_out + 1), 0][: len(out)]
    assert [x.shape[1] for x in out] == [2 * l + 1 for l in degrees]
    assert [x.shape[2] for x in out] == list(table.channels_out)
    flat = torch.cat([h.transpose(1, 2).flatten(1) for h in blocks], dim=1)
    irreps_h = o3.Irreps([(c, irrep) for irrep, c in zip(inputs, table.channels, strict=True)])
    seen = 0
    for i, (l1, p1) in enumerate(inputs):
        begin = int(p1 != (-1) ** l1)
        for path in table.kinds[begin].paths:
            if path[0] != l1:
                continue
            _, l2, l3 = path
            p3 = p1 * (-1) ** l2
            product = o3.TensorProduct(
                irreps_h,
                o3.Irreps.spherical_harmonics(lmax),
                [(table.channels[i], (l3, p3))],
                [(i, l2, 0, "uvu", True)],
                shared_weights=False,
                internal_weights=False,
            ).double()
            messages = product(flat[SENDER], y, r[:, table.weight_columns(begin, path)])
            summed = messages.new_zeros(5, messages.shape[1]).index_add(0, RECEIVER, messages)
            natural_end = p3 == (-1) ** l3
            block = l3 if natural_end else (lmax_out + l3 if l3 > 0 else 2 * lmax_out + 1)
            found = out[block][:, :, table.out_columns(begin, path)].transpose(1, 2).flatten(1)
            # e3nn holds its coefficients in float32: each of the products of a sum is off by 6e-8 of itself
            torch.testing.assert_close(found, summed, rtol=0, atol=2e-6)
            seen += table.channels[i]
    assert seen == sum(table.channels_out)  # no path is missing


def test_second_derivatives() -> None:
    table = parity_table((2, 1), (1, 2), 1, 1)
    generator = torch.Generator().manual_seed(1)
    shapes = [(5, 1, 2), (5, 3, 1), (5, 3, 1), (5, 1, 2), (len(SENDER), 4), (len(SENDER), table.num_weights)]
    inputs = [torch.randn(*s, generator=generator, dtype=torch.float64).requires_grad_() for s in shapes]

    def function(*inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(parity_convolve(inputs[:4], *inputs[4:], EDGES, table))

    assert torch.autograd.gradgradcheck(function, inputs)
