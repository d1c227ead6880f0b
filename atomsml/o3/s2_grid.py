"""Product quadratures on the sphere: signals to values on a grid and back, exact for products of signals."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache

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
    """Points and weights that integrate the product of `factors` signals with any one component without error.

    A signal is f(r) = sum_i f_i Y_i(r) with i over `components`, in component normalisation: the mean of Y_i Y_j over
    the sphere is 1 for i = j and 0 otherwise. The integrand is a polynomial of degree d = (factors + 1) lmax in r whose
    orders reach M = (factors + 1) mmax. Two rules therefore do: M + 1 equidistant longitudes, the fewest among which
    no order up to M is mistaken for 0, and Gauss-Legendre latitudes, of which n are exact up to degree 2 n - 1 >= d in
    y = cos(theta). (The polar axis is y, as in `spherical_harmonics`.)

    Raises ValueError for factors < 1 and for components that are no (l, m) or come twice.
    """

    components: Components
    factors: int

    def __post_init__(self) -> None:
        if self.factors < 1:
            raise ValueError(f"factors is {self.factors}: a grid serves the product of at least one signal")
        if len(set(self.components)) < len(self.components) or any(abs(m) > l for l, m in self.components):
            raise ValueError(f"components are {self.components}: give different pairs (l, m) with |m| <= l")

    @property
    def latitudes(self) -> int:
        degree = (self.factors + 1) * _largest(l for l, _ in self.components)
        return degree // 2 + 1

    @property
    def longitudes(self) -> int:
        return (self.factors + 1) * _largest(abs(m) for _, m in self.components) + 1

    @cached_property
    def points(self) -> torch.Tensor:
        """Unit vectors, longitude by longitude inside each latitude: (latitudes * longitudes, 3), float64."""
        y = np.polynomial.legendre.leggauss(self.latitudes)[0][:, None]
        longitude = 2 * np.pi * np.arange(self.longitudes) / self.longitudes
        radius = np.sqrt(1 - y**2)  # of the circle of latitude
        points = np.stack(np.broadcast_arrays(radius * np.sin(longitude), y, radius * np.cos(longitude)), axis=-1)
        return torch.from_numpy(points.reshape(-1, 3))

    @cached_property
    def weights(self) -> torch.Tensor:
        """Share of the sphere that each point stands for: (points,), of sum 1."""
        latitude_weights = np.polynomial.legendre.leggauss(self.latitudes)[1] / 2
        return torch.from_numpy(np.repeat(latitude_weights / self.longitudes, self.longitudes))

    @cached_property
    def to_grid(self) -> torch.Tensor:
        """Y_i at each point, which takes coefficients to values: (points, components)."""
        rows = [l * l + l + m for l, m in self.components]
        return spherical_harmonics(_largest(l for l, _ in self.components), self.points)[:, rows]

    @cached_property
    def from_grid(self) -> torch.Tensor:
        """The projection of values on the components, the mean of f Y_i over the sphere: (components, points)."""
        return (self.weights[:, None] * self.to_grid).T.contiguous()


@lru_cache
def grid_matrices(
    components: Components, factors: int, dtype: torch.dtype, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """`to_grid` and `from_grid` of such a grid; kept, so that a GPU need not wait for them at each call."""
    with torch.inference_mode(False):  # what is first asked for there must still serve later gradients
        grid = S2Grid(components, factors)
        return grid.to_grid.to(device, dtype), grid.from_grid.to(device, dtype)


def _largest(numbers: Iterable[int]) -> int:
    return max(numbers, default=0)
