"""The symmetric contraction of MACE as one sparse polynomial per output component.

    out[n, o, c] = sum_t coefficients[species[n], t, c] prod_d features[n, index[t, d], c]     over t with output[t] = o

which is Batatia et al. 2022 (MACE), eq. 10-11 with the generalised Clebsch-Gordan coefficients and the weights
multiplied out: the coefficients depend on the weights alone and are formed once per step, and a term is one product
of at most three components instead of a row of dense tensors over 16^3 of them.
"""

from functools import partial

import torch
from torch import Tensor

from atomsml.ops.contraction.table import ContractionTable
from atomsml.ops.dispatch import kernels

_kernels = partial(kernels, "contraction")


def contract(features: Tensor, coefficients: Tensor, species: Tensor, table: ContractionTable) -> Tensor:
    """Contract features (N, D, C) with coefficients (S, K, C) of each atom's species (N,) to (N, O, C).

    float32 and float64 go through compiled kernels, which can be differentiated twice, on a CPU and, where Triton is
    installed, on a GPU; everything else goes through `contract_reference`. Raises ValueError where shapes or dtypes do
    not fit, and on a CPU, which need not wait for the answer, where a species has no row.
    """
    if features.dtype == torch.bfloat16:  # as matrix products under autocast return
        features = features.to(coefficients.dtype)
    _check(features, coefficients, species, table)
    if _kernels(features.device) is None or features.dtype not in (torch.float32, torch.float64):
        return contract_reference(features, coefficients, species, table)
    if (
        features.device.type == "cpu"
        and len(species)
        and not 0 <= int(species.min()) <= int(species.max()) < len(coefficients)
    ):
        raise ValueError(f"species must lie in 0..{len(coefficients) - 1}, one row of coefficients each")
    out = _Contraction.apply(features, coefficients, species, table)
    if coefficients.requires_grad:
        # Autograd does not tell a function which of its gradients are wanted. A node of its own for the coefficients is
        # only visited when theirs is, so that forces do not pay for it.
        out = out + _CoefficientBranch.apply(coefficients, (features,), species, table)
    return out


def contract_reference(features: Tensor, coefficients: Tensor, species: Tensor, table: ContractionTable) -> Tensor:
    """The same in plain torch, with derivatives of any order; the oracle of every other backend."""
    padded = torch.cat([features, torch.ones_like(features[:, :1])], dim=1)  # the last component is the factor one
    first, second, third = table.index.unbind(1)
    terms = coefficients[species] * padded[:, first] * padded[:, second] * padded[:, third]  # (N, K, C)
    shape = (features.shape[0], table.num_outputs, features.shape[2])
    return features.new_zeros(shape).index_add(1, table.output, terms)


def _check(features: Tensor, coefficients: Tensor, species: Tensor, table: ContractionTable) -> None:
    atoms, components, channels = features.shape
    if components != table.num_components:
        raise ValueError(f"features have {components} components, but the table was made for {table.num_components}")
    if coefficients.shape[1:] != (len(table.index), channels):
        expected = ("S", len(table.index), channels)
        raise ValueError(f"coefficients must have the shape {expected}, not {tuple(coefficients.shape)}")
    if coefficients.dtype != features.dtype:
        raise ValueError(f"features are {features.dtype} but coefficients {coefficients.dtype}; cast one of them")
    if species.shape != (atoms,):
        raise ValueError(f"species must have the shape ({atoms},), not {tuple(species.shape)}")


class _Contraction(torch.autograd.Function):
    """The contraction, differentiated with respect to the features only."""

    @staticmethod
    def forward(ctx, features, coefficients, species, table):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(features, coefficients, species)
        ctx.table = table
        return _kernels(features.device).forward(features, coefficients, species, table)

    @staticmethod
    def backward(ctx, grad_output):  # type: ignore[no-untyped-def]
        return _FeatureGradient.apply(grad_output, *ctx.saved_tensors, ctx.table), None, None, None


class _FeatureGradient(torch.autograd.Function):
    """Gradient of L = sum(grad_output * out) with respect to the features.

    For a cotangent v, sum(v * dL/dfeatures) is the derivative of L along v, so that its gradients are those of L,
    differentiated along v.
    """

    @staticmethod
    def forward(ctx, grad_output, features, coefficients, species, table):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(grad_output, features, coefficients, species)
        ctx.table = table
        return _kernels(features.device).backward(grad_output, features, coefficients, species, table)

    @staticmethod
    def backward(ctx, v):  # type: ignore[no-untyped-def]
        return *_AlongDirection.apply(v, *ctx.saved_tensors, ctx.table), None, None


class _AlongDirection(torch.autograd.Function):
    """Derivatives along v of the output and of both gradients."""

    @staticmethod
    def forward(ctx, v, grad_output, features, coefficients, species, table):  # type: ignore[no-untyped-def]
        return _kernels(features.device).backward_along(v, grad_output, features, coefficients, species, table)

    @staticmethod
    def backward(ctx, *_):  # type: ignore[no-untyped-def]
        raise NotImplementedError("the kernels of the contraction have no third derivatives; use contract_reference")


class _CoefficientBranch(torch.autograd.Function):
    """Zero, with the derivative of the contraction with respect to the coefficients."""

    @staticmethod
    def forward(ctx, coefficients, features, species, table):  # type: ignore[no-untyped-def]
        ctx.features = features[0]  # wrapped in a tuple, so that this node is no way to the features
        ctx.species, ctx.table, ctx.num_species = species, table, len(coefficients)
        atoms, _, channels = features[0].shape
        return coefficients.new_zeros(()).expand(atoms, table.num_outputs, channels)

    @staticmethod
    def backward(ctx, grad_output):  # type: ignore[no-untyped-def]
        grad = _CoefficientGradient.apply(grad_output, ctx.features, ctx.species, ctx.table, ctx.num_species)
        return grad, None, None, None


class _CoefficientGradient(torch.autograd.Function):
    """Gradient of L = sum(grad_output * out) with respect to the coefficients.

    L is linear in them: for a cotangent u, sum(u * dL/dcoefficients) is L with u in their place.
    """

    @staticmethod
    def forward(ctx, grad_output, features, species, table, num_species):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(grad_output, features, species)
        ctx.table = table
        return _kernels(features.device).backward_coefficients(grad_output, features, species, table, num_species)

    @staticmethod
    def backward(ctx, u):  # type: ignore[no-untyped-def]
        grad_output, features, species = ctx.saved_tensors
        by_output = contract(features, u, species, ctx.table)
        by_features = _FeatureGradient.apply(grad_output, features, u, species, ctx.table)
        return by_output, by_features, None, None, None
