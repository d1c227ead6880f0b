"""The kernels of operation.py: which arrays they take, and how samples are shared out among threads."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from atomsml.codegen.products import packed
from atomsml.codegen.threads import in_parts
from atomsml.ops.pair_messages.cpu_backward import backward_kernel
from atomsml.ops.pair_messages.cpu_forward import forward_kernel
from atomsml.ops.pair_messages.cpu_parts import Sizes

WORTH_A_THREAD = 2_000  # pairs


def forward(given: Sequence[Tensor], keep: bool) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """What operation.py returns, and what `backward` wants: numbers before both activations, gates and vectors."""
    z, v, geometry, message, ends = given[0], given[5], *given[7:]
    samples, nodes, channels = z.shape[0], z.shape[1], z.shape[3]
    sizes = Sizes(channels, v.shape[3], ends.shape[1] - v.shape[3])
    weights = [packed(w) for w in (geometry, message, ends)]
    found = torch.empty_like(z), z.new_empty(samples, nodes, channels), torch.empty_like(v)
    pairs = samples if keep else 0
    kept = tuple(z.new_empty(pairs, nodes, nodes, width) for width in (channels, channels, sizes.ends))
    kernel = forward_kernel(sizes, z.dtype)

    def part(first: int, last: int) -> None:
        mine = kept if keep else [z.new_empty(1, nodes, nodes, x.shape[3]) for x in kept]
        scratch = z.new_empty(nodes * nodes, max(channels, sizes.features))
        kernel([*given[:7], *weights, *found, *mine, scratch], first, last, nodes, int(keep))

    in_parts(samples, samples * nodes**2 // WORTH_A_THREAD, part)
    return found, kept


def backward(gradients: Sequence[Tensor], saved: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Gradients of all inputs; `saved` are logarithms, units, v, others, weights, and what `forward` kept."""
    by_z, v = gradients[0], saved[2]
    samples, nodes, channels = by_z.shape[0], by_z.shape[1], by_z.shape[3]
    matrices = saved[4:7]
    sizes = Sizes(channels, v.shape[3], matrices[2].shape[1] - v.shape[3])
    weights = [packed(w.mT) for w in matrices]
    ends = [by_z.new_empty(samples, nodes, channels), by_z.new_zeros(samples, nodes, channels)]
    found = [torch.empty_like(by_z), *ends, torch.empty_like(saved[0]), torch.empty_like(saved[1]), torch.zeros_like(v)]
    kernel, sums = backward_kernel(sizes, by_z.dtype), []

    def part(first: int, last: int) -> None:
        mine = [torch.zeros_like(w) for w in matrices]
        scratch = by_z.new_empty(nodes * nodes, sizes.scratch)
        kernel([*gradients, *saved[:4], *weights, *saved[7:], *found, *mine, scratch], first, last, nodes)
        sums.append(mine)

    in_parts(samples, samples * nodes**2 // WORTH_A_THREAD, part)
    by_weights = sums[0] if len(sums) == 1 else [torch.stack(each).sum(dim=0) for each in zip(*sums, strict=True)]
    return (*found, None, *by_weights)  # type: ignore[arg-type]  # none of the mask
