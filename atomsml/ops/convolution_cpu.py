"""CPU kernels of the equivariant convolution, compiled by numba: forward, backward and double backward.

All three walk the edges of one receiver after the other, so that no edge tensor larger than `weights` ever exists and
sums have a fixed order. Notation as in convolution.py: h features, y harmonics, r weights, g the gradient of the
output; for an edge and a path,

    m(o, a) = sum over b of C[a, b, o] * y[b]        the matrix of the product with Y
    x(a)    = h[a] * r                               what the sender sends
    q(a)    = sum over o of m(o, a) * g[o]           the gradient pulled back to the sender's side

The double backward differentiates sum(vh * grad_h) + sum(vy * grad_y) + sum(vr * grad_r) with respect to g, h, y, r;
a leading v marks those cotangents and what follows from them: mv is m of vy, xv = vh * r + h * vr, qv is q of mv.

The source of a kernel is written out for each table of paths, because a compiler vectorises straight-line sums over a
few rows and does not vectorise loops over index arrays.
Every loop over channels writes to few arrays, or the compiler gives up proving that they do not overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from atomsml.ops.convolution import ConvolutionTable

# reassociation lets sums over channels vectorise; NaN and infinity keep their meaning
FASTMATH = {"reassoc", "contract", "nsz", "arcp"}


def forward(h: Tensor, y: Tensor, r: Tensor, sender: Tensor, row_start: Tensor, table: ConvolutionTable) -> Tensor:
    out = h.new_zeros(len(h), table.dim_out, h.shape[2])
    _kernel("forward", table)(*_arrays(h, y, r, sender, row_start), _values(table, h.dtype), out.numpy())
    return out


def backward(
    g: Tensor, h: Tensor, y: Tensor, r: Tensor, sender: Tensor, row_start: Tensor, table: ConvolutionTable
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of sum(g * out) with respect to h, y and r."""
    grads = [_zeros(h), _zeros(y), _uninitialised(r)]
    arrays = _arrays(g, h, y, r, sender, row_start)
    _kernel("backward", table)(*arrays, _values(table, h.dtype), *(x.numpy() for x in grads))
    return grads[0], grads[1], grads[2]


def double_backward(
    vh: Tensor,
    vy: Tensor,
    vr: Tensor,
    g: Tensor,
    h: Tensor,
    y: Tensor,
    r: Tensor,
    sender: Tensor,
    row_start: Tensor,
    table: ConvolutionTable,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of sum(vh * grad_h) + sum(vy * grad_y) + sum(vr * grad_r) with respect to g, h, y and r."""
    grads = [_zeros(g), _zeros(h), _zeros(y), _uninitialised(r)]
    arrays = _arrays(vh, vy, vr, g, h, y, r, sender, row_start)
    _kernel("double_backward", table)(*arrays, _values(table, h.dtype), *(x.numpy() for x in grads))
    return grads[0], grads[1], grads[2], grads[3]


def _zeros(like: Tensor) -> Tensor:
    return torch.zeros_like(like, memory_format=torch.contiguous_format)


def _uninitialised(like: Tensor) -> Tensor:
    """For the gradient of the weights, the largest tensor here: every element is written exactly once."""
    return torch.empty_like(like, memory_format=torch.contiguous_format)


def _arrays(*tensors: Tensor) -> list[np.ndarray]:
    return [x.detach().contiguous().numpy() for x in tensors]


def _values(table: ConvolutionTable, dtype: torch.dtype) -> np.ndarray:
    return table.term_value.astype(np.float32 if dtype == torch.float32 else np.float64)


ARGUMENTS = {
    "forward": "h, y, r, sender, row_start, value, out",
    "backward": "g, h, y, r, sender, row_start, value, grad_h, grad_y, grad_r",
    "double_backward": "vh, vy, vr, g, h, y, r, sender, row_start, value, grad_g, grad_h, grad_y, grad_r",
}


# rows of scratch space: one per component of the features
BUFFERS: dict[str, tuple[str, ...]] = {
    "forward": (),
    "backward": ("x", "q"),
    "double_backward": ("x", "xv", "q", "qv"),
}


@lru_cache
def _kernel(kind: str, table: ConvolutionTable) -> Callable[..., None]:
    """Compile one kernel for one table; numba keeps the machine code on disk for the next process."""
    name = f"{kind}_{table.name}"
    body = {"forward": _forward_path, "backward": _backward_path, "double_backward": _double_backward_path}[kind]
    lines = [
        f"def {name}({ARGUMENTS[kind]}):",
        "    channels = h.shape[2]",
        *(f"    {buffer} = np.empty((h.shape[1], channels), h.dtype)" for buffer in BUFFERS[kind]),
        "    for n in range(len(h)):",
        "        for e in range(row_start[n], row_start[n + 1]):",
        "            s = sender[e]",
    ]
    for p in range(len(table.paths)):
        lines += [" " * 12 + line for line in body(table, p)]
    # the file name of a real file is what lets numba find its cache; the code itself is part of the cache key
    namespace: dict[str, Any] = {"np": np, "__name__": __name__}
    exec(compile("\n".join(lines), __file__, "exec"), namespace)
    compiled: Callable[..., None] = njit(fastmath=FASTMATH, nogil=True, cache=True)(namespace[name])
    return compiled


def _forward_path(table: ConvolutionTable, p: int) -> Iterator[str]:
    rows, columns, pairs = _pairs(table, p)
    yield from _matrix("m", "y", table, p)
    yield "for c in range(channels):"
    for a in columns:
        yield f"    x{a} = h[s, {a}, c] * r[e, {p}, c]"
    for o in rows:
        yield f"    out[n, {o}, c] += " + " + ".join(f"m{i} * x{a}" for i, oi, a in pairs if oi == o)


def _backward_path(table: ConvolutionTable, p: int) -> Iterator[str]:
    _, columns, pairs = _pairs(table, p)
    yield from _matrix("m", "y", table, p)
    yield "for c in range(channels):"
    for a in columns:
        yield f"    x[{a}, c] = h[s, {a}, c] * r[e, {p}, c]"
    yield from _pull_back("q", "m", columns, pairs)
    yield from _harmonics_gradient("x", table, p)
    yield "for c in range(channels):"
    yield f"    grad_r[e, {p}, c] = " + " + ".join(f"h[s, {a}, c] * q[{a}, c]" for a in columns)
    for a in columns:
        yield f"    grad_h[s, {a}, c] += r[e, {p}, c] * q[{a}, c]"


def _double_backward_path(table: ConvolutionTable, p: int) -> Iterator[str]:
    rows, columns, pairs = _pairs(table, p)
    yield from _matrix("m", "y", table, p)
    yield from _matrix("mv", "vy", table, p)
    yield "for c in range(channels):"
    for a in columns:
        yield f"    x[{a}, c] = h[s, {a}, c] * r[e, {p}, c]"
        yield f"    xv[{a}, c] = vh[s, {a}, c] * r[e, {p}, c] + h[s, {a}, c] * vr[e, {p}, c]"
    yield "for c in range(channels):"
    for o in rows:
        mine = [(i, a) for i, oi, a in pairs if oi == o]
        yield f"    grad_g[n, {o}, c] += " + " + ".join(f"mv{i} * x[{a}, c] + m{i} * xv[{a}, c]" for i, a in mine)
    yield from _pull_back("q", "m", columns, pairs)
    yield from _pull_back("qv", "mv", columns, pairs)
    yield from _harmonics_gradient("xv", table, p)
    yield "for c in range(channels):"
    yield f"    grad_r[e, {p}, c] = " + " + ".join(
        f"h[s, {a}, c] * qv[{a}, c] + vh[s, {a}, c] * q[{a}, c]" for a in columns
    )
    for a in columns:
        yield f"    grad_h[s, {a}, c] += r[e, {p}, c] * qv[{a}, c] + vr[e, {p}, c] * q[{a}, c]"


def _pairs(table: ConvolutionTable, p: int) -> tuple[list[int], list[int], list[tuple[int, int, int]]]:
    """Output rows and input columns of a path, and its pairs (number of the pair, o, a)."""
    numbers = range(table.path_start[p], table.path_start[p + 1])
    pairs = [(i, int(table.pair_o[i]), int(table.pair_a[i])) for i in numbers]
    return sorted({o for _, o, _ in pairs}), sorted({a for _, _, a in pairs}), pairs


def _terms(table: ConvolutionTable, pair: int) -> list[tuple[int, int]]:
    """(number of the term, b) of each nonzero coefficient of a pair."""
    return [(t, int(table.term_b[t])) for t in range(table.pair_start[pair], table.pair_start[pair + 1])]


def _matrix(name: str, harmonics: str, table: ConvolutionTable, p: int) -> Iterator[str]:
    for i, _, _ in _pairs(table, p)[2]:
        yield f"{name}{i} = " + " + ".join(f"value[{t}] * {harmonics}[e, {b}]" for t, b in _terms(table, i))


def _pull_back(name: str, matrix: str, columns: list[int], pairs: list[tuple[int, int, int]]) -> Iterator[str]:
    yield "for c in range(channels):"
    for a in columns:
        yield f"    {name}[{a}, c] = " + " + ".join(f"{matrix}{i} * g[n, {o}, c]" for i, o, ai in pairs if ai == a)


def _harmonics_gradient(sent: str, table: ConvolutionTable, p: int) -> Iterator[str]:
    """grad_y from the gradient d of each matrix element: d(o, a) = sum over channels of g[o] * sent[a]."""
    pairs = _pairs(table, p)[2]
    for i, _, _ in pairs:
        yield f"d{i} = value[0] * 0"
    yield "for c in range(channels):"
    for i, o, a in pairs:
        yield f"    d{i} += g[n, {o}, c] * {sent}[{a}, c]"
    for i, _, _ in pairs:
        for t, b in _terms(table, i):
            yield f"grad_y[e, {b}] += value[{t}] * d{i}"
