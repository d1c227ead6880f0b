"""What the tensor products share: their definition, their paths and their interface.

    z_l3 = sum over paths p = (l1, l2, l3) of w_p sqrt(2 l3 + 1) C_p(x_l1, y_l2)

with C_p the Clebsch-Gordan coupling of `clebsch_gordan`. Every equivariant product of two features is of this form
(Xie et al., "The Price of Freedom", ICML 2025, arXiv:2506.13523): algorithms differ in which weights w_p they can
have, and in what they cost.
"""

from abc import ABC, abstractmethod
from functools import lru_cache
from math import sqrt

import torch
from torch import Tensor

from atomsml.o3.clebsch_gordan import clebsch_gordan

Paths = tuple[tuple[int, int, int], ...]
CHUNK = 125  # pairs


@lru_cache
def all_paths(lmax: int, odd: bool = True) -> Paths:
    """Every (l1, l2, l3) up to lmax that couples, ordered by l3, l1, l2; without `odd`, those of even l1 + l2 + l3.

    Paths of odd l1 + l2 + l3, the vector product (1, 1, 1) for one, change sign when x and y trade places, and do
    not keep natural parity (-1)^l.
    """
    degrees = range(lmax + 1)
    return tuple(
        (l1, l2, l3)
        for l3 in degrees
        for l1 in degrees
        for l2 in range(abs(l1 - l3), min(l1 + l3, lmax) + 1)
        if odd or (l1 + l2 + l3) % 2 == 0
    )


def gaunt_weights(paths: Paths) -> Tensor:
    """The w_p with which the sum above is the product of x and y as signals on the sphere: (paths, 1), float64.

    Multiplying Y_l1 Y_l2 at the pole, where Y_lm is sqrt(2 l + 1) for m = 0 and 0 else, reads off the scale of each
    coupling. The weights are zero where l1 + l2 + l3 is odd: such couplings vanish between signals.
    """
    weights = [clebsch_gordan(*p)[p].item() * sqrt((2 * p[0] + 1) * (2 * p[1] + 1)) for p in paths]
    return torch.tensor(weights, dtype=torch.float64)[:, None]


def in_chunks(x: Tensor) -> tuple[Tensor, ...]:
    """On CPU parts of x that are small enough for what follows from them to find room in a cache; elsewhere x."""
    return x.split(CHUNK) if x.device.type == "cpu" else (x,)


class TensorProduct(ABC):
    """A product of two features x and y of degrees up to lmax, channel by channel.

    Attributes:
        lmax: largest degree of x, y and z.
        paths: those of the sum above.
        weights: w, of shape (paths, channels) or (paths, 1).
    """

    def __init__(self, lmax: int, paths: Paths, weights: Tensor) -> None:
        if len(weights) != len(paths):
            raise ValueError(f"{len(weights)} rows of weights for {len(paths)} paths: give one row for each path")
        self.lmax, self.paths, self.weights = lmax, paths, weights

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """(n, (lmax + 1)^2, channels), the same or with one channel for y -> (n, (lmax + 1)^2, channels)."""
        return torch.cat([self._multiply(a, b) for a, b in zip(in_chunks(x), in_chunks(y), strict=True)])

    @abstractmethod
    def _multiply(self, x: Tensor, y: Tensor) -> Tensor:
        """The product of one chunk."""
