"""Features of atoms turned into the frames of edges, and messages turned back and summed.

    turn_in     out[e, k, c] = sum over i and j of D[e, k, j] x[index[i, e], j, c]
    turn_out    out[n, j, c] = sum over all i and e with index[i, e] = n, and over k, of D[e, k, j] y[e, k, c]
    products    out[e, k, j] = sum over i and c of y[e, k, c] x[index[i, e], j, c]

where j counts all components of one degree l, and k those of them that a frame keeps, |m| <= mmax; degrees do not mix.
An edge may so add up several rows of features, as that of its sender and that of its receiver.
The derivatives of each of the three are two of the three: together they are closed under differentiation.

| symbol | name | shape |
|---|---|---|
| D | wigner | for each degree l: (edges, 2 min(l, mmax) + 1, 2 l + 1) |
| x | features | (rows, (lmax + 1)^2, channels) |
| | index | (rows to an edge, edges) |
| y | messages | (edges, kept components, channels), in the order `places` |

`places[i]` says which row of messages holds the i-th of the kept components as D counts them, by l and then by m.
Compiled kernels do it on CPU, batched matrix products elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from atomsml.device import constant_index
from atomsml.ops.dispatch import kernels
from atomsml.ops.edge_rotation.table import Places

_kernels = partial(kernels, "edge_rotation")


def turn_in(wigner: Sequence[Tensor], features: Tensor, index: Tensor, places: Places) -> Tensor:
    """(edges, kept components, channels) of the module docstring; any order of derivative."""
    if _kernels(features.device) is None:
        return turn_in_reference(wigner, features, index, places)
    features, *wigner = _alike(features, *wigner)
    out: Tensor = _TurnIn.apply(features, index, places, *wigner)
    return out


def turn_out(wigner: Sequence[Tensor], messages: Tensor, index: Tensor, places: Places, num_rows: int) -> Tensor:
    """(num_rows, (lmax + 1)^2, channels) of the module docstring; any order of derivative."""
    if _kernels(messages.device) is None:
        return turn_out_reference(wigner, messages, index, places, num_rows)
    messages, *wigner = _alike(messages, *wigner)
    out: Tensor = _TurnOut.apply(messages, index, places, num_rows, *wigner)
    return out


def turn_in_reference(wigner: Sequence[Tensor], features: Tensor, index: Tensor, places: Places) -> Tensor:
    gathered = features[index].sum(dim=0).split([d.shape[2] for d in wigner], dim=1)
    turned = torch.cat([d @ x for d, x in zip(wigner, gathered, strict=True)], dim=1)
    return turned.index_select(1, constant_index(places, index.device).argsort())


def turn_out_reference(
    wigner: Sequence[Tensor], messages: Tensor, index: Tensor, places: Places, num_rows: int
) -> Tensor:
    by_degree = messages.index_select(1, constant_index(places, index.device))
    blocks = by_degree.split([d.shape[1] for d in wigner], dim=1)
    turned = torch.cat([d.mT @ y for d, y in zip(wigner, blocks, strict=True)], dim=1)
    out = turned.new_zeros(num_rows, *turned.shape[1:])
    for rows in index:
        out = out.index_add(0, rows, turned)
    return out


def _alike(*tensors: Tensor) -> list[Tensor]:
    """As float32 or float64, whichever is wider: kernels know no narrower type, which matrix products may return."""
    dtype = torch.float32
    for x in tensors:
        dtype = torch.promote_types(dtype, x.dtype)
    return [x.to(dtype) for x in tensors]


class _TurnIn(torch.autograd.Function):
    @staticmethod
    def forward(features: Tensor, index: Tensor, places: Places, *wigner: Tensor) -> Tensor:
        return _kernels(features.device).turn_in(wigner, features, index, places)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        features, index, ctx.places, *wigner = inputs
        ctx.save_for_backward(features, index, *wigner)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        features, index, *wigner = ctx.saved_tensors
        by_features, by_wigner = None, [None] * len(wigner)
        if ctx.needs_input_grad[0]:
            by_features = _TurnOut.apply(g, index, ctx.places, len(features), *wigner)
        if any(ctx.needs_input_grad[3:]):
            by_wigner = _Products.apply(g, features, index, ctx.places, len(wigner))
        return by_features, None, None, *by_wigner


class _TurnOut(torch.autograd.Function):
    @staticmethod
    def forward(messages: Tensor, index: Tensor, places: Places, num_rows: int, *wigner: Tensor) -> Tensor:
        return _kernels(messages.device).turn_out(wigner, messages, index, places, num_rows)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        messages, index, ctx.places, _, *wigner = inputs
        ctx.save_for_backward(messages, index, *wigner)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        messages, index, *wigner = ctx.saved_tensors
        by_messages, by_wigner = None, [None] * len(wigner)
        if ctx.needs_input_grad[0]:
            by_messages = _TurnIn.apply(g, index, ctx.places, *wigner)
        if any(ctx.needs_input_grad[4:]):
            by_wigner = _Products.apply(messages, g, index, ctx.places, len(wigner))
        return by_messages, None, None, None, *by_wigner


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(messages: Tensor, features: Tensor, index: Tensor, places: Places, degrees: int) -> tuple[Tensor, ...]:
        return tuple(_kernels(messages.device).products(messages, features, index, places, degrees))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        messages, features, index, ctx.places, _ = inputs
        ctx.save_for_backward(messages, features, index)

    @staticmethod
    def backward(ctx: Any, *g: Tensor) -> tuple[Tensor | None, ...]:
        messages, features, index = ctx.saved_tensors
        by_messages = by_features = None
        if ctx.needs_input_grad[0]:
            by_messages = _TurnIn.apply(features, index, ctx.places, *g)
        if ctx.needs_input_grad[1]:
            by_features = _TurnOut.apply(messages, index, ctx.places, len(features), *g)
        return by_messages, by_features, None, None, None
