"""Product quadratures on the sphere: signals to values on a grid and back."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

import numpy as np
import torch

from atomsml.o3.spherical_harmonics import spherical_harmonics

Components = tuple[tuple[int, int], ...]
"""(l, m) of each row of an array of features."""


@lru_cache
def all_components(lmax: int) -> Components:
    """Every (l, m) up to lmax in the standard layout, in which (l, m) stands at l*l + l + m."""
    return tuple((l, m) for l in range(lmax + 1) for m in range(-l, l + 1))


@dataclass(frozen=True)
class S2Grid:
    """Points of the sphere in circles of latitude, and their weights.

    A signal is f(r) = sum_i s_i f_i Y_i(r) with i over `components`, in component normalisation: the mean of Y_i Y_j
    over the sphere is 1 for i = j and 0 otherwise. The polar axis is y, as in `spherical_harmonics`, and longitudes
    count from z towards x.

    | rule | y = cos(theta) of the latitudes | weights are exact |
    |---|---|---|
    | gauss-legendre | the roots of the Legendre polynomial P_n | up to degree 2 n - 1 |
    | equiangular | theta_k = (k + 1/2) pi / n, k = 0 ... n - 1, as e3nn has them | up to degree n - 1: Fejer's rule |

    n longitudes 2 pi k / n are exact up to order n - 1. `product_grid` gives the fewest points that do for a product.

    Args:
        to_scales: s, one for each degree l = 0 ... lmax; 1 if not given. e3nn's "integral" signals have
            1 / sqrt(4 pi), its "component" signals 1 / sqrt((lmax + 1) (2 l + 1)).
        from_scales: what `from_grid` multiplies degrees with; 1 / s if not given, which makes it the inverse of
            `to_grid`.

    Raises ValueError for components that are no (l, m) or come twice, for no latitudes or longitudes, and for another
    number of scales than of degrees.
    """

    components: Components
    latitudes: int
    longitudes: int
    rule: Literal["gauss-legendre", "equiangular"] = "gauss-legendre"
    to_scales: tuple[float, ...] | None = None
    from_scales: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if len(set(self.components)) < len(self.components) or any(abs(m) > l for l, m in self.components):
            raise ValueError(f"components are {self.components}: give different pairs (l, m) with |m| <= l")
        if min(self.latitudes, self.longitudes) < 1:
            raise ValueError(f"a grid has latitudes and longitudes, got {self.latitudes} and {self.longitudes}")
        for scales in (self.to_scales, self.from_scales):
            if scales is not None and len(scales) != self.lmax + 1:
                raise ValueError(f"scales are {scales}: give one for each degree l = 0 ... {self.lmax}")

    @property
    def lmax(self) -> int:
        return _largest(l for l, _ in self.components)

    @cached_property
    def points(self) -> torch.Tensor:
        """Unit vectors, longitude by longitude inside each latitude: (latitudes * longitudes, 3), float64."""
        y = self._latitudes()[0][:, None]
        longitude = 2 * np.pi * np.arange(self.longitudes) / self.longitudes
        radius = np.sqrt(1 - y**2)  # of the circle of latitude
        points = np.stack(np.broadcast_arrays(radius * np.sin(longitude), y, radius * np.cos(longitude)), axis=-1)
        return torch.from_numpy(points.reshape(-1, 3))

    @cached_property
    def weights(self) -> torch.Tensor:
        """Share of the sphere that each point stands for: (points,), of sum 1."""
        return torch.from_numpy(np.repeat(self._latitudes()[1] / self.longitudes, self.longitudes))

    @cached_property
    def to_grid(self) -> torch.Tensor:
        """s_i Y_i at each point, which takes coefficients to values: (points, components)."""
        return self._harmonics * self._of_components(self.to_scales or [1.0] * (self.lmax + 1))

    @cached_property
    def from_grid(self) -> torch.Tensor:
        """The projection of values on the components, the mean of f Y_i / s_i over the sphere: (components, points)."""
        inverse = [1 / scale for scale in self.to_scales or [1.0] * (self.lmax + 1)]
        scales = self._of_components(self.from_scales or inverse)
        return (self.weights[:, None] * self._harmonics * scales).T.contiguous()

    def _latitudes(self) -> tuple[np.ndarray, np.ndarray]:
        """y = cos(theta), and weights of sum 1."""
        n = self.latitudes
        if self.rule == "gauss-legendre":
            y, weights = np.polynomial.legendre.leggauss(n)
            return y, weights / 2
        theta = (np.arange(n) + 0.5) * np.pi / n
        k = np.arange(1, n // 2 + 1)
        return np.cos(theta), (1 - 2 * (np.cos(2 * np.outer(theta, k)) / (4 * k**2 - 1)).sum(1)) / n

    @cached_property
    def _harmonics(self) -> torch.Tensor:
        rows = [l * l + l + m for l, m in self.components]
        return spherical_harmonics(self.lmax, self.points)[:, rows]

    def _of_components(self, scales: Sequence[float]) -> torch.Tensor:
        return torch.tensor([scales[l] for l, _ in self.components], dtype=torch.float64)


@lru_cache
def product_grid(components: Components, factors: int) -> S2Grid:
    """The grid that integrates the product of `factors` signals with any one component without error.

    The integrand is a polynomial of degree d = (factors + 1) lmax in r whose orders reach M = (factors + 1) mmax. Two
    rules therefore do: M + 1 equidistant longitudes, the fewest among which no order up to M is mistaken for 0, and
    Gauss-Legendre latitudes, of which n are exact up to degree 2 n - 1 >= d in y.

    Raises ValueError for factors < 1.
    """
    if factors < 1:
        raise ValueError(f"factors is {factors}: a grid serves the product of at least one signal")
    degree = (factors + 1) * _largest(l for l, _ in components)
    order = (factors + 1) * _largest(abs(m) for _, m in components)
    return S2Grid(components, latitudes=degree // 2 + 1, longitudes=order + 1)


@lru_cache
def grid_matrices(grid: S2Grid, dtype: torch.dtype, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """`to_grid` and `from_grid` of a grid; kept, so that a GPU need not wait for them at each call."""
    with torch.inference_mode(False):  # what is first asked for there must still serve later gradients
        return grid.to_grid.to(device, dtype), grid.from_grid.to(device, dtype)


def _largest(numbers: Iterable[int]) -> int:
    return max(numbers, default=0)
