"""Messages between all pairs of atoms of molecules, and what the atoms gather of them; `reference` has the equations.

In plain torch every step writes as many numbers as there are pairs times channels to memory and reads them again, which
takes longer than the arithmetic. On a CPU the kernels go through one molecule at a time, all of whose pairs stay in the
cache, forwards and backwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from atomsml.ops.activation import silu
from atomsml.ops.dispatch import kernels
from atomsml.ops.pair_messages.table import log_features

_kernels = partial(kernels, "pair_messages")


@dataclass(frozen=True)
class PairWeights:
    """Matrices, scaled so that a product with them keeps the size of what they multiply."""

    geometry: Tensor  # (DISTANCES + 2 vectors, channels)
    message: Tensor  # (channels, channels)
    gate: Tensor  # (channels, gates)
    vector: Tensor  # (channels, vectors)


def pair_messages(
    z: Tensor,
    receiver: Tensor,
    sender: Tensor,
    logarithms: Tensor,
    units: Tensor,
    v: Tensor,
    others: Tensor,
    weights: PairWeights,
) -> tuple[Tensor, Tensor, Tensor]:
    """`reference`. On a CPU float32 and float64 go through kernels, whose derivatives have no derivatives."""
    known = z.dtype in (torch.float32, torch.float64) and not torch.is_autocast_enabled(z.device.type)
    if not known or _kernels(z.device) is None:
        return reference(z, receiver, sender, logarithms, units, v, others, weights)
    ends = torch.cat([weights.gate, weights.vector], dim=1)
    inputs = (z, receiver, sender, logarithms, units, v, others, weights.geometry, weights.message, ends)
    found: tuple[Tensor, Tensor, Tensor] = _PairMessages.apply(*inputs)
    return found


def reference(
    z: Tensor,
    receiver: Tensor,
    sender: Tensor,
    logarithms: Tensor,
    units: Tensor,
    v: Tensor,
    others: Tensor,
    weights: PairWeights,
) -> tuple[Tensor, Tensor, Tensor]:
    """Messages m and what becomes of them, in plain torch.

        f_ij = (Gaussians of log(1 + |r_ij|), u_ij . v_i, -u_ij . v_j)
        m_ij = silu(silu((z_ij + a_i + b_j + f_ij W_geometry) / 2) W_message) o_ij
        z_ij + m_ij,    sum_j sigmoid(m_ij W_gate) m_ij,    sum_j u_ij (m_ij W_vector)

    Args:
        z: (samples, nodes, nodes, channels), of receiver i and sender j.
        receiver, sender: a and b, (samples, nodes, channels).
        logarithms: (samples, nodes, nodes).
        units: u_ij, (samples, nodes, nodes, 3).
        v: (samples, nodes, 3, vectors).
        others: o_ij, (samples, nodes, nodes), 1 between different atoms, else 0.
        weights: a gate is for neighbouring channels / gates channels.

    Returns:
        (samples, nodes, nodes, channels), (samples, nodes, channels), (samples, nodes, 3, vectors)
    """
    of_receiver, of_sender = units @ v, -(units.transpose(1, 2) @ v).transpose(1, 2)
    features = torch.cat([log_features(logarithms), of_receiver, of_sender], dim=-1)
    p = 0.5 * (z + receiver[:, :, None] + sender[:, None] + features @ weights.geometry)
    m = silu(silu(p) @ weights.message) * others[..., None]
    gates = torch.sigmoid(m @ weights.gate).unsqueeze(-1)
    gathered = (gates * m.unflatten(-1, (gates.shape[-2], -1))).flatten(-2).sum(dim=2)
    return z + m, gathered, units.mT @ (m @ weights.vector)


class _PairMessages(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> tuple[Tensor, ...]:
        given = [x.contiguous() for x in inputs]
        found, kept = _kernels(given[0].device).forward(given, keep=any(ctx.needs_input_grad))
        ctx.save_for_backward(*given[3:], *kept)  # not what is only added: its derivative does not depend on it
        return found

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        return _kernels(saved[0].device).backward([g.contiguous() for g in gradients], saved)
