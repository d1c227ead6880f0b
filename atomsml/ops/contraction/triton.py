"""GPU kernels of the symmetric contraction in Triton: values, gradients, gradients differentiated along a direction.

Output and gradient are polynomials with the same coefficients w, sums of products of three factors:

    out(o) = sum over t of w(t) x(i) x(j) x(k)        grad(i) = sum over t of w(t) g(o) x(j) x(k)

the latter over all terms and places where x(i) is a factor (`ContractionTable.values` and `.derivatives` list both).
The components x of an atom, the constant one and the gradient g of its output are rows of one tensor z. A program takes
one atom, one output or component, and one warp of channels; that of the coefficients' gradient takes a few terms and
the atoms of one species in their order. Nothing is atomic: equal input gives equal bits.

Along a direction v of the features a product of factors is replaced by its derivative, with dz = (v, 0, 0) for z.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from atomsml.ops.contraction.table import ContractionTable

CHANNELS = 64 if torch.version.hip else 32  # of one program: one thread each, in one warp
TERMS = 8  # loaded at once
LAUNCH = {"num_warps": 1, "enable_fp_fusion": True}


def forward(features: Tensor, coefficients: Tensor, species: Tensor, table: ContractionTable) -> Tensor:
    """Output (N, O, C)."""
    z = _rows(features, 1.0)
    return _polynomials(z, None, coefficients, species, table.values, table.value_start)


def backward(
    grad_output: Tensor, features: Tensor, coefficients: Tensor, species: Tensor, table: ContractionTable
) -> Tensor:
    """Gradient of sum(grad_output * output) with respect to the features."""
    z = _rows(features, 1.0, grad_output)
    return _polynomials(z, None, coefficients, species, table.derivatives, table.derivative_start)


def backward_coefficients(
    grad_output: Tensor, features: Tensor, species: Tensor, table: ContractionTable, num_species: int
) -> Tensor:
    """Gradient of sum(grad_output * output) with respect to the coefficients."""
    return _sum_over_atoms(_rows(features, 1.0, grad_output), None, species, table, num_species)


def backward_along(
    direction: Tensor,
    grad_output: Tensor,
    features: Tensor,
    coefficients: Tensor,
    species: Tensor,
    table: ContractionTable,
) -> tuple[Tensor, Tensor, Tensor]:
    """Derivatives along a direction of the features (N, D, C): of output, gradient of features and of coefficients."""
    z = _rows(features, 1.0, grad_output)
    dz = _rows(direction, 0.0, torch.zeros_like(grad_output))
    out = _polynomials(z, dz, coefficients, species, table.values, table.value_start)
    grad = _polynomials(z, dz, coefficients, species, table.derivatives, table.derivative_start)
    return out, grad, _sum_over_atoms(z, dz, species, table, len(coefficients))


def _rows(features: Tensor, constant: float, *grad_output: Tensor) -> Tensor:
    """z of the module docstring, (N, D + 1 + O, C)."""
    return torch.cat([features, torch.full_like(features[:, :1], constant), *grad_output], dim=1).contiguous()


def _polynomials(
    z: Tensor, dz: Tensor | None, coefficients: Tensor, species: Tensor, terms: Tensor, start: Tensor
) -> Tensor:
    """(N, polynomials, C); terms start[i] .. start[i + 1] - 1 belong to polynomial i."""
    atoms, rows, channels = z.shape
    out = z.new_empty(atoms, len(start) - 1, channels)
    if out.numel():
        grid = (atoms, len(start) - 1, triton.cdiv(channels, CHANNELS))
        arrays = [z, z if dz is None else dz, coefficients.contiguous(), species.contiguous(), terms, start, out]
        with torch.cuda.device_of(z):
            _polynomial[grid](*arrays, rows, coefficients.shape[1], channels, dz is not None, TERMS, CHANNELS, **LAUNCH)
    return out


def _sum_over_atoms(z: Tensor, dz: Tensor | None, species: Tensor, table: ContractionTable, num_species: int) -> Tensor:
    """Gradient of the coefficients (S, K, C)."""
    _, rows, channels = z.shape
    order = torch.argsort(species, stable=True)
    start = torch.searchsorted(species[order], torch.arange(num_species + 1, device=species.device))
    out = z.new_empty(num_species, len(table.values), channels)
    if out.numel():
        grid = (triton.cdiv(out.shape[1], TERMS), num_species, triton.cdiv(channels, CHANNELS))
        arrays = [z, z if dz is None else dz, order, start, table.values, table.output, out]
        first_output = table.num_components + 1
        with torch.cuda.device_of(z):
            _coefficient_gradient[grid](
                *arrays, rows, first_output, out.shape[1], channels, dz is not None, TERMS, CHANNELS, **LAUNCH
            )
    return out


@triton.jit
def _product(z, dz, factors, real, inside, channels, ALONG: tl.constexpr):  # type: ignore[no-untyped-def]
    """Products of the three rows of z that `factors` points to, or their derivatives, (TERMS, CHANNELS)."""
    mask = real[:, None] & inside[None, :]
    i = tl.load(factors, real, 0)[:, None] * channels
    j = tl.load(factors + 1, real, 0)[:, None] * channels
    k = tl.load(factors + 2, real, 0)[:, None] * channels
    zi, zj, zk = tl.load(z + i, mask, 0.0), tl.load(z + j, mask, 0.0), tl.load(z + k, mask, 0.0)
    if ALONG:
        di, dj, dk = tl.load(dz + i, mask, 0.0), tl.load(dz + j, mask, 0.0), tl.load(dz + k, mask, 0.0)
        return di * (zj * zk) + zi * (dj * zk + zj * dk)
    else:
        return zi * (zj * zk)


@triton.jit
def _polynomial(  # type: ignore[no-untyped-def]
    z, dz, w, species, terms, start, out, rows, num_terms, channels,
    ALONG: tl.constexpr, TERMS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    n, p = tl.program_id(0).to(tl.int64), tl.program_id(1)
    c = tl.program_id(2) * CHANNELS + tl.arange(0, CHANNELS)
    inside = c < channels
    atom = n * rows * channels + c[None, :]
    w += tl.load(species + n) * num_terms * channels + c[None, :]
    first, last = tl.load(start + p), tl.load(start + p + 1)
    total = tl.zeros((TERMS, CHANNELS), z.dtype.element_ty)
    for t in range(first, last, TERMS):
        number = t + tl.arange(0, TERMS)
        real = number < last
        coefficient = tl.load(terms + 4 * number, real, 0)
        product = _product(z + atom, dz + atom, terms + 4 * number + 1, real, inside, channels, ALONG)
        mask = real[:, None] & inside[None, :]
        total += tl.load(w + coefficient[:, None] * channels, mask, 0.0) * product
    tl.store(out + (n * tl.num_programs(1) + p) * channels + c, tl.sum(total, 0), inside)


@triton.jit
def _coefficient_gradient(  # type: ignore[no-untyped-def]
    z, dz, order, start, terms, output, out, rows, first_output, num_terms, channels,
    ALONG: tl.constexpr, TERMS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    number, s = tl.program_id(0) * TERMS + tl.arange(0, TERMS), tl.program_id(1).to(tl.int64)
    c = tl.program_id(2) * CHANNELS + tl.arange(0, CHANNELS)
    real, inside = number < num_terms, c < channels
    mask = real[:, None] & inside[None, :]
    g = (first_output + tl.load(output + number, real, 0))[:, None] * channels
    total = tl.zeros((TERMS, CHANNELS), z.dtype.element_ty)
    for i in range(tl.load(start + s), tl.load(start + s + 1)):
        atom = tl.load(order + i) * rows * channels + c[None, :]
        product = _product(z + atom, dz + atom, terms + 4 * number + 1, real, inside, channels, ALONG)
        total += tl.load(z + atom + g, mask, 0.0) * product
    tl.store(out + (s * num_terms + number[:, None]) * channels + c[None, :], total, mask)
