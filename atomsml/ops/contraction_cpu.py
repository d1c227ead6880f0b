"""Compiled CPU kernels of the symmetric contraction: values, gradients, and gradients differentiated along a direction.

The terms of one output that share their first two factors a and b form a run; with q = sum_t w_t x_t over the third
factors of the run, its share of the output is a b q. A third factor thus costs one multiply-add, forward, and one
more, backward, for w_t times the gradient of q. Rows over the channels are contiguous, so the innermost loops are
vectorised; atoms are summed in order by one thread, so results do not depend on anything but the input. As a last row
of each atom's features stands the constant one, the factor of terms of lower degree.
"""

from typing import TYPE_CHECKING

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from atomsml.ops.contraction import ContractionTable

# Sums may be reordered and contracted to fused multiply-adds; NaN and infinity keep their meaning.
_compile = numba.njit(fastmath={"reassoc", "contract", "nsz", "arcp"}, nogil=True, cache=True, error_model="numpy")


def forward(features: Tensor, coefficients: Tensor, species: Tensor, table: "ContractionTable") -> Tensor:
    """Output (N, O, C)."""
    out = features.new_zeros((features.shape[0], table.num_outputs, features.shape[2]))
    _forward(*_arrays(features, coefficients, species), *_terms(table), out.numpy())
    return out


def backward(
    grad_output: Tensor,
    features: Tensor,
    coefficients: Tensor,
    species: Tensor,
    table: "ContractionTable",
    with_coefficients: bool,
) -> tuple[Tensor, Tensor | None]:
    """Gradients of sum(grad_output * output) with respect to features and, where asked for, coefficients."""
    grad_features = torch.empty_like(features, memory_format=torch.contiguous_format)
    grad_coefficients = coefficients.new_zeros(coefficients.shape) if with_coefficients else None
    _backward(
        *_arrays(features, coefficients, species, grad_output),
        *_terms(table),
        grad_features.numpy(),
        None if grad_coefficients is None else grad_coefficients.numpy(),
    )
    return grad_features, grad_coefficients


def backward_along(
    direction: Tensor,
    grad_output: Tensor,
    features: Tensor,
    coefficients: Tensor,
    species: Tensor,
    table: "ContractionTable",
    with_coefficients: bool,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Derivatives along a direction of the features (N, D, C) of the output and of what `backward` returns."""
    output = features.new_zeros((features.shape[0], table.num_outputs, features.shape[2]))
    grad_features = torch.empty_like(features, memory_format=torch.contiguous_format)
    grad_coefficients = coefficients.new_zeros(coefficients.shape) if with_coefficients else None
    _backward_along(
        *_arrays(features, coefficients, species, grad_output, direction),
        *_terms(table),
        output.numpy(),
        grad_features.numpy(),
        None if grad_coefficients is None else grad_coefficients.numpy(),
    )
    return output, grad_features, grad_coefficients


def _arrays(*tensors: Tensor) -> list[NDArray]:
    return [tensor.detach().contiguous().numpy() for tensor in tensors]


def _terms(table: "ContractionTable") -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    return table.pair.numpy(), table.pair_start.numpy(), table.index[:, 2].numpy()


@_compile
def _forward(features, coefficients, species, pair, pair_start, third, out):  # type: ignore[no-untyped-def]
    atoms, components, channels = features.shape
    x = np.ones((components + 1, channels), features.dtype)
    q = np.empty(channels, features.dtype)
    for n in range(atoms):
        x[:components] = features[n]
        w = coefficients[species[n]]
        for p in range(len(pair)):
            q[:] = 0
            for t in range(pair_start[p], pair_start[p + 1]):
                wt, xt = w[t], x[third[t]]
                for c in range(channels):
                    q[c] += wt[c] * xt[c]
            a, b, row = x[pair[p, 0]], x[pair[p, 1]], out[n, pair[p, 2]]
            for c in range(channels):
                row[c] += a[c] * b[c] * q[c]


@_compile
def _backward(  # type: ignore[no-untyped-def]
    features, coefficients, species, grad_output, pair, pair_start, third, grad_features, grad_coefficients
):
    atoms, components, channels = features.shape
    x = np.ones((components + 1, channels), features.dtype)
    gx = np.empty((components + 1, channels), features.dtype)
    q = np.empty(channels, features.dtype)
    gq = np.empty(channels, features.dtype)
    for n in range(atoms):
        x[:components] = features[n]
        gx[:] = 0
        w = coefficients[species[n]]
        for p in range(len(pair)):
            i, j, g = pair[p, 0], pair[p, 1], grad_output[n, pair[p, 2]]
            a, b = x[i], x[j]
            for c in range(channels):
                q[c] = 0
                gq[c] = g[c] * a[c] * b[c]
            for t in range(pair_start[p], pair_start[p + 1]):
                wt, xt, gt = w[t], x[third[t]], gx[third[t]]
                for c in range(channels):
                    q[c] += wt[c] * xt[c]
                    gt[c] += wt[c] * gq[c]
                if grad_coefficients is not None:
                    gw = grad_coefficients[species[n], t]
                    for c in range(channels):
                        gw[c] += gq[c] * xt[c]
            ga, gb = gx[i], gx[j]
            for c in range(channels):
                ga[c] += g[c] * b[c] * q[c]
            for c in range(channels):
                gb[c] += g[c] * a[c] * q[c]
        grad_features[n] = gx[:components]


@_compile
def _backward_along(  # type: ignore[no-untyped-def]
    features,
    coefficients,
    species,
    grad_output,
    direction,
    pair,
    pair_start,
    third,
    out,
    grad_features,
    grad_coefficients,
):
    # A name with the suffix _v is the derivative along the direction of what has the name without it.
    atoms, components, channels = features.shape
    x = np.ones((components + 1, channels), features.dtype)
    x_v = np.zeros((components + 1, channels), features.dtype)
    gx_v = np.empty((components + 1, channels), features.dtype)
    q, q_v, gq, gq_v = np.empty((4, channels), features.dtype)
    for n in range(atoms):
        x[:components] = features[n]
        x_v[:components] = direction[n]
        gx_v[:] = 0
        w = coefficients[species[n]]
        for p in range(len(pair)):
            i, j, o = pair[p]
            g, a, b, a_v, b_v = grad_output[n, o], x[i], x[j], x_v[i], x_v[j]
            for c in range(channels):
                q[c] = 0
                q_v[c] = 0
                gq[c] = g[c] * a[c] * b[c]
                gq_v[c] = g[c] * (a_v[c] * b[c] + a[c] * b_v[c])
            for t in range(pair_start[p], pair_start[p + 1]):
                wt, xt, xt_v, gt_v = w[t], x[third[t]], x_v[third[t]], gx_v[third[t]]
                for c in range(channels):
                    q[c] += wt[c] * xt[c]
                    q_v[c] += wt[c] * xt_v[c]
                    gt_v[c] += wt[c] * gq_v[c]
                if grad_coefficients is not None:
                    gw = grad_coefficients[species[n], t]
                    for c in range(channels):
                        gw[c] += gq_v[c] * xt[c] + gq[c] * xt_v[c]
            row, ga_v, gb_v = out[n, o], gx_v[i], gx_v[j]
            for c in range(channels):
                row[c] += (a_v[c] * b[c] + a[c] * b_v[c]) * q[c] + a[c] * b[c] * q_v[c]
            for c in range(channels):
                ga_v[c] += g[c] * (b_v[c] * q[c] + b[c] * q_v[c])
            for c in range(channels):
                gb_v[c] += g[c] * (a_v[c] * q[c] + a[c] * q_v[c])
        grad_features[n] = gx_v[:components]
