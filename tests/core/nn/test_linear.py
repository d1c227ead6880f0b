"""The shared layers against e3nn: the same normalisation, and equivariance."""

from __future__ import annotations

import pytest
import torch
from e3nn import nn as e3nn_nn
from e3nn import o3

from atomsml.nn.linear import MLP, ElementLinear, IrrepLinear, MatmulLinear, irrep_blocks
from atomsml.o3 import wigner_d
from atomsml.ops.matmul.operation import WORTH_A_KERNEL


@pytest.mark.parametrize("bias", [True, False])
def test_matmul_linear_is_that_of_torch(bias: bool) -> None:
    """To rounding, of sums over 40 inputs and, in the gradients, 1,000 rows; large enough for a kernel."""
    torch.manual_seed(0)
    rows, inputs, outputs = 1000, 40, 30
    assert rows * inputs * outputs > WORTH_A_KERNEL
    ours, theirs = (each(inputs, outputs, bias=bias).double() for each in (MatmulLinear, torch.nn.Linear))
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(rows, inputs, dtype=torch.float64, requires_grad=True)
    found, expected = (torch.autograd.grad(each(x).sin().sum(), [x, *each.parameters()]) for each in (ours, theirs))
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-13)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-11)


def test_mlp_equals_that_of_e3nn() -> None:
    torch.manual_seed(0)
    reference = e3nn_nn.FullyConnectedNet([5, 7, 3], torch.nn.functional.silu).double()
    mlp = MLP((5, 7, 3)).double()
    for ours, theirs in zip(mlp.weights, reference.parameters(), strict=True):
        ours.data = theirs.data.clone()
    x = torch.randn(10, 5, dtype=torch.float64)
    # e3nn estimates the gain of SiLU by sampling, to about 1e-3
    torch.testing.assert_close(mlp(x), reference(x), rtol=5e-3, atol=5e-3)


def test_irrep_linear_equals_that_of_e3nn() -> None:
    torch.manual_seed(0)
    linear = IrrepLinear([6, 4], 3).double()
    reference = o3.Linear("6x0e + 4x1o", "3x0e + 3x1o").double()
    reference.weight.data = torch.cat([w.data.flatten() for w in linear.weights])
    blocks = [torch.randn(5, 1, 6, dtype=torch.float64), torch.randn(5, 3, 4, dtype=torch.float64)]
    flat = torch.cat([b.transpose(1, 2).flatten(1) for b in blocks], dim=1)
    scalars, vectors = reference(flat).split([3, 9], dim=1)
    expected = torch.cat([scalars[:, None, :], vectors.view(5, 3, 3).transpose(1, 2)], dim=1)
    torch.testing.assert_close(linear(blocks), expected, rtol=1e-6, atol=1e-6)  # e3nn's path weights are float32


def test_element_linear_is_the_product_with_one_hot_elements() -> None:
    torch.manual_seed(0)
    layer = ElementLinear(num_elements=3, channels=4, lmax=1).double()
    reference = o3.FullyConnectedTensorProduct("4x0e + 4x1o", "3x0e", "4x0e + 4x1o").double()
    reference.weight.data = torch.cat([w.data.transpose(0, 1).flatten() for w in layer.weights])
    species = torch.tensor([0, 2, 2, 0, 0])
    features = torch.randn(5, 4, 4, dtype=torch.float64)
    flat = torch.cat([b.transpose(1, 2).flatten(1) for b in irrep_blocks(features, 1)], dim=1)
    one_hot = torch.nn.functional.one_hot(species, 3).double()
    scalars, vectors = reference(flat, one_hot).split([4, 12], dim=1)
    expected = torch.cat([scalars[:, None, :], vectors.view(5, 4, 3).transpose(1, 2)], dim=1)
    torch.testing.assert_close(layer(features, species), expected, rtol=1e-6, atol=1e-6)


def test_element_linear_is_equivariant_and_takes_what_degrees_it_has() -> None:
    torch.manual_seed(0)
    layer = ElementLinear(num_elements=2, channels=4, lmax=1).double()
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))
    rotation = rotation * torch.linalg.det(rotation)
    d = torch.block_diag(*(wigner_d(l, rotation) for l in range(3)))
    features, species = torch.randn(5, 9, 4, dtype=torch.float64), torch.tensor([0, 1, 1, 0, 1])
    before, after = layer(features, species), layer(torch.einsum("ij,njc->nic", d, features), species)
    assert before.shape == (5, 4, 4)
    torch.testing.assert_close(after, torch.einsum("ij,njc->nic", d[:4, :4], before), rtol=1e-12, atol=1e-12)


def test_element_linear_has_derivatives_of_any_order() -> None:
    torch.manual_seed(0)
    layer = ElementLinear(num_elements=3, channels=2, lmax=1).double()
    features, species = torch.randn(4, 4, 2, dtype=torch.float64), torch.tensor([2, 0, 2, 2])
    weights = [w.detach().requires_grad_() for w in layer.weights]

    def function(x: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        named = {f"weights.{l}": w for l, w in enumerate(weights)}
        return torch.func.functional_call(layer, named, (x, species))

    operands = (features.requires_grad_(), *weights)
    assert torch.autograd.gradcheck(function, operands)
    assert torch.autograd.gradgradcheck(function, operands)
    (first,) = torch.autograd.grad(function(*operands).sin().sum(), features, create_graph=True)
    (second,) = torch.autograd.grad(first.sin().sum(), features, create_graph=True)
    (third,) = torch.autograd.grad(second.sin().sum(), weights[0])
    assert third.abs().sum(dim=(1, 2)).ne(0).tolist() == [True, False, True]  # no atom is of the second element
