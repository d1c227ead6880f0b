"""One of several categories: elements, bond orders, residue types."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from atomsml.generative.core.spaces.base import Space


@dataclass(frozen=True)
class Categorical(Space):
    """int64 from 0 to categories - 1; the value `categories` stands for one not decided yet (see `Masking`).

    Unit noise is uniform. What is predicted of it are probabilities (samples, nodes, categories), data or not.
    """

    categories: int

    shape = ()

    def noise(self, nodes: int, generator: torch.Generator) -> Tensor:
        return torch.randint(self.categories, (nodes,), generator=generator)

    def project(self, x: Tensor, mask: Tensor) -> Tensor:
        return torch.where(mask, x, 0)
