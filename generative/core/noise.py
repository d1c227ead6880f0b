"""Randomness by samples: what a sample gets depends on its seed and its size, not on its batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from atomsml.generative.core.spaces.base import Space


class SampleNoise:
    """One random stream for every sample of a padded batch.

    The numbers are drawn on the CPU in float64, so that a seed means the same on every device and in every precision.

    Args:
        seeds: one for each sample.
        sizes: how many nodes each sample has.
        nodes: how many nodes the batch has, with its padding.

    Raises:
        ValueError: not as many seeds as sizes, or a size above `nodes`.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        sizes: Sequence[int],
        nodes: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        if len(seeds) != len(sizes) or max(sizes, default=0) > nodes:
            raise ValueError(
                f"{len(seeds)} seeds and {len(sizes)} sizes up to {max(sizes, default=0)} do not fit {nodes} nodes; "
                "give a seed and a size for every sample"
            )
        self.sizes = tuple(sizes)
        self.nodes = nodes
        self.dtype = dtype
        self.device = torch.device(device)
        self.mask = (torch.arange(nodes) < torch.tensor(self.sizes).reshape(-1, 1)).to(self.device)  # (samples, nodes)
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __len__(self) -> int:
        return len(self.sizes)

    def __call__(self, space: Space, where: Tensor | None = None) -> Tensor:
        """(samples, nodes, *space.shape) of unit noise; only samples `where` (samples,) draw, the others get zeros."""
        return self._padded([space.noise(n, g) for n, g in self._drawing(where)], space.shape, where)

    def uniform(self, *shape: int) -> Tensor:
        """(samples, nodes, *shape) uniform on [0, 1]: in float32, 1 can come of rounding."""
        draws = [torch.rand(n, *shape, generator=g, dtype=torch.float64) for n, g in self._drawing(None)]
        return self._padded(draws, shape, None)

    def of_samples(self) -> Tensor:
        """(samples,) one number for each, uniform on [0, 1), in float64."""
        return torch.cat([torch.rand(1, generator=g, dtype=torch.float64) for g in self._generators])

    def _drawing(self, where: Tensor | None) -> list[tuple[int, torch.Generator]]:
        chosen = [True] * len(self) if where is None else where.tolist()
        return [(n, g) for n, g, c in zip(self.sizes, self._generators, chosen, strict=True) if c]

    def _padded(self, draws: list[Tensor], shape: tuple[int, ...], where: Tensor | None) -> Tensor:
        """One batch of what was drawn; numbers take the dtype of this noise, categories keep theirs."""
        kind = draws[0].dtype if draws else torch.float64
        batch = torch.zeros(len(self), self.nodes, *shape, dtype=kind)
        if draws:
            mask = self.mask.cpu()
            batch[mask if where is None else mask & where.cpu()[:, None]] = torch.cat(draws)
        return batch.to(self.device, self.dtype if kind.is_floating_point else kind)
