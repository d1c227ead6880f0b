"""Small modules that architectures share. Weights start as N(0, 1); forward scales them by 1 / sqrt(fan in)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from atomsml.device import capturing
from atomsml.ops.activation import silu
from atomsml.ops.matmul import matmul


class MLP(nn.Module):
    """Bias-free perceptron: linear maps of the given widths with SiLU between them, none after the last."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.weights = nn.ParameterList(nn.Parameter(torch.randn(a, b)) for a, b in itertools.pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        for i, matrix in enumerate(self.matrices()):
            x = matmul(silu(x) if i > 0 else x, matrix)
        return x

    def matrices(self) -> list[Tensor]:
        """(channels in, channels out) of each linear map, scaled."""
        return [weight / math.sqrt(weight.shape[0]) for weight in self.weights]


class MatmulLinear(nn.Linear):
    """torch.nn.Linear by the products of `atomsml.ops.matmul`, for many rows."""

    def forward(self, x: Tensor) -> Tensor:
        product = matmul(x, self.weight.T)
        return product if self.bias is None else product + self.bias


class UnitLinear(nn.Linear):
    """torch.nn.Linear in the units of this package: weights and biases start as U(-1, 1), and forward scales them.

    What it computes starts as that of torch.nn.Linear does, U(-1, 1) / sqrt(fan in). Learning rates mean for it what
    they mean for the other modules here.
    """

    @property
    def scale(self) -> float:
        """Of weights and biases."""
        return 1 / math.sqrt(self.in_features)

    def reset_parameters(self) -> None:
        nn.init.uniform_(self.weight, -1, 1)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.scale


class IrrepLinear(nn.Module):
    """A linear map of the channels of each degree l on its own: the equivariant linear layer.

    Args:
        channels_in: number of input channels of each degree l = 0, 1, ...
        channels_out: the same for all degrees.
        bias: add a learned constant to each scalar.
    """

    def __init__(self, channels_in: Sequence[int], channels_out: int, bias: bool = False) -> None:
        super().__init__()
        self.weights = nn.ParameterList(nn.Parameter(torch.randn(c, channels_out)) for c in channels_in)
        self.bias = nn.Parameter(torch.zeros(channels_out)) if bias else None

    def forward(self, blocks: Sequence[Tensor], scale: float = 1.0) -> Tensor:
        """[(atoms, 2l + 1, channels_in[l]) for each l] -> (atoms, (lmax + 1)^2, channels_out), times `scale`."""
        mapped = [x @ (w * (scale / math.sqrt(len(w)))) for x, w in zip(blocks, self.weights, strict=True)]
        if self.bias is not None:
            mapped[0] = mapped[0] + self.bias
        return torch.cat(mapped, dim=1)


class GradedLinear(nn.Module):
    """A linear map of the channels of each degree l on its own, from channels_in[l] to channels_out[l].

    With `num_elements` > 1 every element has its own matrices; it is then the fully connected product of features with
    one-hot elements, hence the scale 1 / sqrt(channels * elements). Given numbers `mixing` (elements, num_elements) in
    the place of one-hot elements, the matrices of an element are the sums that they weight. Degrees that only one side
    has are left out. With `bias` a learned constant is added to each scalar.
    """

    def __init__(
        self, channels_in: Sequence[int], channels_out: Sequence[int], num_elements: int = 1, bias: bool = False
    ) -> None:
        super().__init__()
        sizes = zip(channels_in, channels_out, strict=False)
        self.weights = nn.ParameterList(nn.Parameter(torch.randn(num_elements, a, b)) for a, b in sizes)
        self.bias = nn.Parameter(torch.zeros(channels_out[0])) if bias else None

    def forward(
        self, blocks: Sequence[Tensor], species: Tensor | None = None, mixing: Tensor | None = None
    ) -> list[Tensor]:
        """[(atoms, 2l + 1, channels_in[l])] -> [(atoms, 2l + 1, channels_out[l])]."""
        scalars, *others = self._mapped(blocks, species, self.matrices(mixing))
        return [scalars if self.bias is None else scalars + self.bias, *others]

    def matrices(self, mixing: Tensor | None = None) -> list[Tensor]:
        """(elements or 1, channels in, channels out) of each degree, scaled."""
        scaled = [w / math.sqrt(w.shape[0] * w.shape[1]) for w in self.weights]
        return scaled if mixing is None else [torch.tensordot(mixing, w, dims=1) for w in scaled]

    def _mapped(self, blocks: Sequence[Tensor], species: Tensor | None, matrices: Sequence[Tensor]) -> list[Tensor]:
        if len(matrices[0]) == 1:
            return [x @ w[0] for x, w in zip(blocks, matrices, strict=False)]
        assert species is not None  # who has matrices per element gives the elements
        if capturing(species.device):  # how many atoms an element has cannot be asked: each atom takes its own matrices
            return [x @ w[species] for x, w in zip(blocks, matrices, strict=False)]
        order, counts = species.argsort(stable=True), species.bincount(minlength=len(matrices[0])).tolist()
        back = order.argsort()
        return [
            torch.cat([mine @ matrix for mine, matrix in zip(x[order].split(counts), w, strict=True)])[back]
            for x, w in zip(blocks, matrices, strict=False)
        ]


class ElementLinear(nn.Module):
    """A linear map of the channels of each degree l with one matrix per element.

    It is the fully connected product of features with one-hot elements, hence the scale 1 / sqrt(channels * elements).
    """

    def __init__(self, num_elements: int, channels: int, lmax: int) -> None:
        super().__init__()
        self.weights = nn.ParameterList(
            nn.Parameter(torch.randn(num_elements, channels, channels)) for _ in range(lmax + 1)
        )

    def forward(self, features: Tensor, species: Tensor) -> Tensor:
        """(atoms, at least (lmax + 1)^2, channels) -> (atoms, (lmax + 1)^2, channels)."""
        num_elements, channels, _ = self.weights[0].shape
        scale = 1.0 / math.sqrt(num_elements * channels)
        mine = features[:, : len(self.weights) ** 2].to(self.weights[0].dtype)  # under autocast they may be narrower
        if capturing(species.device):  # which elements there are cannot be asked: each atom takes its own matrices
            blocks = zip(irrep_blocks(mine, len(self.weights) - 1), self.weights, strict=True)
            return torch.cat([x @ (w * scale)[species] for x, w in blocks], dim=1)
        mapped: Tensor = _ElementMap.apply(mine, _atoms_of_elements(species), *[w * scale for w in self.weights])
        return mapped


AtomsOfElements = list[tuple[int, Tensor]]
"""(species, its atoms) of every species that occurs."""


class _ElementMap(torch.autograd.Function):
    """out[n, m] = x[n, m] @ weights[l][species[n]], where m is a component of degree l.

    With its derivative, below, it forms a pair that is closed under differentiation; autograd through the loops over
    elements would cost more than the products.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, elements: AtomsOfElements, *weights: Tensor) -> Tensor:
        ctx.save_for_backward(x, *weights)
        ctx.elements = elements
        out = torch.empty_like(x, memory_format=torch.contiguous_format)
        for s, atoms in elements:
            blocks = irrep_blocks(x[atoms], len(weights) - 1)
            out[atoms] = torch.cat([block @ w[s] for block, w in zip(blocks, weights, strict=True)], dim=1).to(out)
        return out

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, *weights = ctx.saved_tensors
        by_x = _ElementMap.apply(g, ctx.elements, *[w.mT for w in weights]) if ctx.needs_input_grad[0] else None
        if not any(ctx.needs_input_grad[2:]):
            return by_x, None, *[None] * len(weights)
        return by_x, None, *_ElementProducts.apply(x, g, ctx.elements, len(weights[0]))


class _ElementProducts(torch.autograd.Function):
    """out[l][s] = sum of x[n, m] (outer) y[n, m] over the atoms n of element s and the components m of degree l."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, elements: AtomsOfElements, num_elements: int) -> tuple[Tensor, ...]:
        ctx.save_for_backward(x, y)
        ctx.elements = elements
        lmax, channels = math.isqrt(x.shape[1]) - 1, x.shape[2]
        out = [x.new_zeros(num_elements, channels, channels) for _ in range(lmax + 1)]
        for s, atoms in elements:
            for total, a, b in zip(out, irrep_blocks(x[atoms], lmax), irrep_blocks(y[atoms], lmax), strict=True):
                torch.mm(a.flatten(0, 1).T, b.flatten(0, 1), out=total[s])
        return tuple(out)

    @staticmethod
    def backward(ctx: Any, *v: Tensor) -> tuple[Tensor | None, ...]:
        x, y = ctx.saved_tensors
        by_x = _ElementMap.apply(y, ctx.elements, *[w.mT for w in v])
        return by_x, _ElementMap.apply(x, ctx.elements, *v), None, None


def _atoms_of_elements(species: Tensor) -> AtomsOfElements:
    found, counts = species.unique(return_counts=True)
    return list(zip(found.tolist(), species.argsort(stable=True).split(counts.tolist()), strict=True))


def irrep_blocks(features: Tensor, lmax: int) -> tuple[Tensor, ...]:
    """(atoms, (lmax + 1)^2, channels) -> one (atoms, 2l + 1, channels) view per l."""
    return features.split([2 * l + 1 for l in range(lmax + 1)], dim=1)
