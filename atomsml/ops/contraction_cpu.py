"""Compiled CPU kernels of the symmetric contraction: values, gradients, and gradients differentiated along a direction.

The terms of one output that share their first two factors a and b form a run; with q = sum_t w_t x_t over the third
factors of the run, its share of the output is a b q. A term thus costs one multiply-add forward, and one more backward
for w_t times the gradient of q. The last row of each atom's features is the constant one, the factor of terms of lower
degree. Each innermost loop runs over contiguous channels and writes one or two rows, few enough for the compiler to
check at run time that they overlap nothing and to vectorise. One thread sums the atoms in order, so that equal input
gives equal bits.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from atomsml.ops.contraction import ContractionTable

# Sums may be reordered and contracted to fused multiply-adds; NaN and infinity keep their meaning.
_compile: Callable[[Callable[..., None]], Callable[..., None]] = numba.njit(
    fastmath={"reassoc", "contract", "nsz", "arcp"}, nogil=True, cache=True, error_model="numpy"
)


def forward(features: Tensor, coefficients: Tensor, species: Tensor, table: "ContractionTable") -> Tensor:
    """Output (N, O, C)."""
    out = features.new_zeros((features.shape[0], table.num_outputs, features.shape[2]))
    _forward(*_arrays(features, coefficients, species), *_terms(table), out.numpy())
    return out


def backward(
    grad_output: Tensor, features: Tensor, coefficients: Tensor, species: Tensor, table: "ContractionTable"
) -> Tensor:
    """Gradient of sum(grad_output * output) with respect to the features."""
    grad = torch.empty_like(features, memory_format=torch.contiguous_format)
    _backward(*_arrays(grad_output, features, coefficients, species), *_terms(table), grad.numpy())
    return grad


def backward_coefficients(
    grad_output: Tensor, features: Tensor, species: Tensor, table: "ContractionTable", num_species: int
) -> Tensor:
    """Gradient of sum(grad_output * output) with respect to the coefficients."""
    grad = features.new_zeros((num_species, len(table.index), features.shape[2]))
    _backward_coefficients(*_arrays(grad_output, features, species), *_terms(table), grad.numpy())
    return grad


def backward_along(
    direction: Tensor,
    grad_output: Tensor,
    features: Tensor,
    coefficients: Tensor,
    species: Tensor,
    table: "ContractionTable",
) -> tuple[Tensor, Tensor, Tensor]:
    """Derivatives along a direction of the features (N, D, C): of output, gradient of features and of coefficients."""
    output = features.new_zeros((features.shape[0], table.num_outputs, features.shape[2]))
    grad_features = torch.empty_like(features, memory_format=torch.contiguous_format)
    grad_coefficients = coefficients.new_zeros(coefficients.shape)
    inputs = _arrays(direction, grad_output, features, coefficients, species)
    _backward_along(*inputs, *_terms(table), output.numpy(), grad_features.numpy(), grad_coefficients.numpy())
    return output, grad_features, grad_coefficients


def _arrays(*tensors: Tensor) -> list[NDArray]:
    return [tensor.detach().contiguous().numpy() for tensor in tensors]


def _terms(table: "ContractionTable") -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    return table.run.numpy(), table.run_start.numpy(), table.index[:, 2].contiguous().numpy()


@_compile
def _forward(features, coefficients, species, run, run_start, third, out):  # type: ignore[no-untyped-def]
    atoms, components, channels = features.shape
    x = np.ones((components + 1, channels), features.dtype)
    q = np.empty(channels, features.dtype)
    for n in range(atoms):
        for i in range(components):
            for c in range(channels):
                x[i, c] = features[n, i, c]
        w = coefficients[species[n]]
        for r in range(len(run)):
            o, i, j = run[r, 0], run[r, 1], run[r, 2]
            for c in range(channels):
                q[c] = 0
            for t in range(run_start[r], run_start[r + 1]):
                k = third[t]
                for c in range(channels):
                    q[c] += w[t, c] * x[k, c]
            for c in range(channels):
                out[n, o, c] += x[i, c] * x[j, c] * q[c]


@_compile
def _backward(grad_output, features, coefficients, species, run, run_start, third, grad):  # type: ignore[no-untyped-def]
    atoms, components, channels = features.shape
    x = np.ones((components + 1, channels), features.dtype)
    gx = np.empty((components + 1, channels), features.dtype)
    q, gq = np.empty((2, channels), features.dtype)
    for n in range(atoms):
        for i in range(components):
            for c in range(channels):
                x[i, c] = features[n, i, c]
        for i in range(components + 1):
            for c in range(channels):
                gx[i, c] = 0
        w, g = coefficients[species[n]], grad_output[n]
        for r in range(len(run)):
            o, i, j = run[r, 0], run[r, 1], run[r, 2]
            for c in range(channels):
                q[c] = 0
                gq[c] = g[o, c] * x[i, c] * x[j, c]
            for t in range(run_start[r], run_start[r + 1]):
                k = third[t]
                for c in range(channels):
                    q[c] += w[t, c] * x[k, c]
                for c in range(channels):
                    gx[k, c] += w[t, c] * gq[c]
            for c in range(channels):
                gx[i, c] += g[o, c] * x[j, c] * q[c]
            for c in range(channels):
                gx[j, c] += g[o, c] * x[i, c] * q[c]
        for i in range(components):
            for c in range(channels):
                grad[n, i, c] = gx[i, c]


@_compile
def _backward_coefficients(grad_output, features, species, run, run_start, third, grad):  # type: ignore[no-untyped-def]
    atoms, components, channels = features.shape
    x = np.ones((components + 1, channels), features.dtype)
    gq = np.empty(channels, features.dtype)
    for n in range(atoms):
        for i in range(components):
            for c in range(channels):
                x[i, c] = features[n, i, c]
        g, gw = grad_output[n], grad[species[n]]
        for r in range(len(run)):
            o, i, j = run[r, 0], run[r, 1], run[r, 2]
            for c in range(channels):
                gq[c] = g[o, c] * x[i, c] * x[j, c]
            for t in range(run_start[r], run_start[r + 1]):
                k = third[t]
                for c in range(channels):
                    gw[t, c] += gq[c] * x[k, c]


@_compile
def _backward_along(  # type: ignore[no-untyped-def]
    direction,
    grad_output,
    features,
    coefficients,
    species,
    run,
    run_start,
    third,
    out,
    grad_features,
    grad_coefficients,
):
    # `s_v` is the derivative of `s` along the direction; ab stands for the product of the first two factors
    atoms, components, channels = features.shape
    x = np.ones((components + 1, channels), features.dtype)
    x_v = np.zeros((components + 1, channels), features.dtype)
    gx_v = np.empty((components + 1, channels), features.dtype)
    q, q_v, ab, ab_v, gq, gq_v = np.empty((6, channels), features.dtype)
    for n in range(atoms):
        for i in range(components):
            for c in range(channels):
                x[i, c] = features[n, i, c]
        for i in range(components):
            for c in range(channels):
                x_v[i, c] = direction[n, i, c]
        for i in range(components + 1):
            for c in range(channels):
                gx_v[i, c] = 0
        w, g, gw_v = coefficients[species[n]], grad_output[n], grad_coefficients[species[n]]
        for r in range(len(run)):
            o, i, j = run[r, 0], run[r, 1], run[r, 2]
            for c in range(channels):
                ab[c] = x[i, c] * x[j, c]
            for c in range(channels):
                ab_v[c] = x_v[i, c] * x[j, c] + x[i, c] * x_v[j, c]
            for c in range(channels):
                q[c] = 0
                gq[c] = g[o, c] * ab[c]
            for c in range(channels):
                q_v[c] = 0
                gq_v[c] = g[o, c] * ab_v[c]
            for t in range(run_start[r], run_start[r + 1]):
                k = third[t]
                for c in range(channels):
                    q[c] += w[t, c] * x[k, c]
                for c in range(channels):
                    q_v[c] += w[t, c] * x_v[k, c]
                for c in range(channels):
                    gx_v[k, c] += w[t, c] * gq_v[c]
                for c in range(channels):
                    gw_v[t, c] += gq_v[c] * x[k, c] + gq[c] * x_v[k, c]
            for c in range(channels):
                out[n, o, c] += ab_v[c] * q[c] + ab[c] * q_v[c]
            for c in range(channels):
                gx_v[i, c] += g[o, c] * (x_v[j, c] * q[c] + x[j, c] * q_v[c])
            for c in range(channels):
                gx_v[j, c] += g[o, c] * (x_v[i, c] * q[c] + x[i, c] * q_v[c])
        for i in range(components):
            for c in range(channels):
                grad_features[n, i, c] = gx_v[i, c]
