"""Where the next atom goes: a distribution of its distance from the focus, and of its direction at that distance.

    p(x) = p(r) p(u | r) / r^2,    x = r u                                                             per Angstrom^3
    p(r) = sum_k w_k exp(-(log r - mu_k)^2 / (2 s_k^2)) / (sqrt(2 pi) s_k r)                           a mixture
    p(u) = sum_c exp(f_c(u)) / Z,    f_c(u) = sum_lm a_clm Y_lm(u)                                     per steradian

exp of a sum of spherical harmonics is how Symphony describes directions (Daigavane et al., arXiv:2311.16199, section
3.2), and several channels c describe directions far from each other. Z is an integral over the sphere by Gauss-Legendre
quadrature. It is exact to rounding where the grid resolves exp f_c, hence `bounded`: the second derivative of f_c
along any great circle is at most

    curvature = sum_l |a_cl| sqrt((2 l + 1) l (l + 1) (3 l (l + 1) - 2) / 8)

by the addition theorem and Cauchy-Schwarz: the sum over m of the squares of Y_lm'' is (2 l + 1) times the fourth
derivative of P_l(cos t) at t = 0. A peak of curvature K has the width 1 / sqrt(K), and exp f needs degrees up to some
times sqrt(K).

| symbol | name | shape |
|---|---|---|
| w, mu, s | log_weights (of sum 1), centres, widths | (n, components) |
| a | coefficients, in the order of `spherical_harmonics` | (n, channels, (lmax + 1)^2) |
| r | distance, Angstrom | (n,) |
| u | direction, of length 1 | (n, 3) |
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from atomsml.o3.s2_grid import S2Grid, all_components
from atomsml.o3.spherical_harmonics import spherical_harmonics

Uniform = Callable[[Tensor, int], Tensor]
"""(rows, count) -> (len(rows), count) uniform numbers in [0, 1) of the samples `rows`, from a stream of each."""

PROPOSALS = 16  # at once for each sample that has none accepted yet


@dataclass(frozen=True)
class DistanceDistribution:
    """A mixture of log-normal distributions: positive, of integral 1 whatever its numbers."""

    log_weights: Tensor
    centres: Tensor
    widths: Tensor

    def log_prob(self, r: Tensor) -> Tensor:
        """(n,) log density per Angstrom."""
        deviation = (torch.log(r)[:, None] - self.centres) / self.widths
        components = self.log_weights - 0.5 * deviation.square() - torch.log(self.widths)
        return torch.logsumexp(components, dim=1) - torch.log(r) - 0.5 * math.log(2 * math.pi)

    def sample(self, uniform: Uniform, rows: Tensor) -> Tensor:
        """(len(rows),) distances of the samples `rows`."""
        first, second = uniform(rows, 2).to(self.centres).unbind(dim=1)
        weights = self.log_weights[rows].exp()
        component = choose(weights, first)[:, None]
        normal = torch.special.ndtri(second.clamp(1e-7, 1 - 1e-7))
        centre, width = (table[rows].gather(1, component)[:, 0] for table in (self.centres, self.widths))
        return torch.exp(centre + width * normal)


@dataclass(frozen=True)
class DirectionDistribution:
    """exp of spherical harmonics, normalised on a grid of `latitudes` circles."""

    coefficients: Tensor
    latitudes: int

    def log_prob(self, u: Tensor) -> Tensor:
        """(n,) log density per steradian."""
        return self.log_weight(u) - self.log_normaliser()

    def log_weight(self, u: Tensor) -> Tensor:
        """(n,) the same plus log Z."""
        harmonics = spherical_harmonics(self._lmax, u)
        return torch.logsumexp((self.coefficients @ harmonics[:, :, None])[:, :, 0], dim=1)

    def log_normaliser(self) -> Tensor:
        """(n,) log Z."""
        harmonics, weights = _grid(self._lmax, self.latitudes, self.coefficients.dtype, self.coefficients.device)
        values = torch.logsumexp(self.coefficients @ harmonics.T, dim=1)  # (n, points)
        return torch.logsumexp(values + torch.log(weights), dim=1) + math.log(4 * math.pi)

    def sample(self, uniform: Uniform, rows: Tensor) -> Tensor:
        """(len(rows), 3) exact draws of the samples `rows`.

        A channel and a cell of the grid are drawn by an upper bound of exp(f) in the cell, then a point of the cell,
        which is accepted with the probability exp(f) / bound. The bound follows from value, gradient and curvature.
        """
        cells = _cells(self._lmax, self.latitudes, self.coefficients.dtype, self.coefficients.device)
        bounds = cells.bounds(self.coefficients[rows])
        weights = torch.exp(bounds - bounds.amax(dim=(1, 2), keepdim=True)) * cells.weights
        cumulative = weights.flatten(1).double().cumsum(dim=1)
        found = self.coefficients.new_zeros(len(rows), 3)
        left = torch.arange(len(rows), device=rows.device)
        while len(left):
            drawn = uniform(rows[left], 4 * PROPOSALS).to(cumulative).reshape(len(left), PROPOSALS, 4)
            table = cumulative[left]
            entry = torch.searchsorted(table, drawn[:, :, 0] * table[:, -1:], right=True).clamp(max=table.shape[1] - 1)
            channel, point = entry // len(cells.weights), entry % len(cells.weights)
            u = cells.inside(point, drawn[:, :, 1], drawn[:, :, 2]).to(self.coefficients)
            chosen = self.coefficients[rows[left][:, None], channel]
            f = (spherical_harmonics(self._lmax, u) * chosen).sum(dim=2)
            bound = bounds[left].flatten(1).gather(1, entry)
            accepted = torch.log(drawn[:, :, 3].clamp(min=1e-300)) < (f - bound)
            done = accepted.any(dim=1)
            first = accepted.to(torch.int8).argmax(dim=1)
            found[left[done]] = u[done, first[done]]
            left = left[~done]
        return found

    @property
    def _lmax(self) -> int:
        return math.isqrt(self.coefficients.shape[2]) - 1


@dataclass(frozen=True)
class PositionDistribution:
    """p(r) p(u | r) / r^2 of the module docstring; `directions` gives p(u | r) of all samples at their distances."""

    distances: DistanceDistribution
    directions: Callable[[Tensor], DirectionDistribution]

    def log_prob(self, x: Tensor) -> Tensor:
        """(n,) log density per Angstrom^3 at x (n, 3), relative to the focus."""
        r = torch.linalg.vector_norm(x, dim=1)
        return self.distances.log_prob(r) + self.directions(r).log_prob(x / r[:, None]) - 2 * torch.log(r)

    def sample(self, uniform: Uniform, rows: Tensor) -> Tensor:
        """(len(rows), 3) draws of the samples `rows`."""
        r = torch.ones_like(self.distances.centres[:, 0]).index_copy(0, rows, self.distances.sample(uniform, rows))
        return r[rows, None] * self.directions(r).sample(uniform, rows)


def choose(weights: Tensor, uniform: Tensor) -> Tensor:
    """(n,) an index of each row of weights (n, choices), drawn in proportion, by uniform numbers (n,) in [0, 1)."""
    cumulative = weights.double().cumsum(dim=1)
    index = torch.searchsorted(cumulative, (uniform.double() * cumulative[:, -1])[:, None], right=True)[:, 0]
    last = weights.shape[1] - 1 - (weights.flip(1) > 0).to(torch.int8).argmax(dim=1)  # rounding must not pick a zero
    return torch.minimum(index, last)


def curvatures(coefficients: Tensor) -> Tensor:
    """(..., (lmax + 1)^2) -> (...,): the bound of second derivatives of the module docstring."""
    by_degree = coefficients.split([2 * l + 1 for l in range(math.isqrt(coefficients.shape[-1]))], dim=-1)
    factors = [math.sqrt((2 * l + 1) * l * (l + 1) * (3 * l * (l + 1) - 2) / 8) for l in range(len(by_degree))]
    norms = [torch.sqrt(a.square().sum(dim=-1) + 1e-12) for a in by_degree]  # whose derivative at 0 is 0
    return torch.stack([factor * norm for factor, norm in zip(factors, norms, strict=True)]).sum(dim=0)


def bounded(coefficients: Tensor, most: float) -> Tensor:
    """The same functions, flattened so that their curvature stays below `most`; their means (l = 0) as they are."""
    scale = torch.rsqrt(1 + (curvatures(coefficients) / most).square())[..., None]
    return torch.cat([coefficients[..., :1], scale * coefficients[..., 1:]], dim=-1)


@lru_cache
def _grid(lmax: int, latitudes: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Harmonics (points, components) and weights (points,), of sum 1, of a Gauss-Legendre grid as fine both ways."""
    grid = S2Grid(all_components(lmax), latitudes, 2 * latitudes - 1)
    return grid.to_grid.to(device, dtype), grid.weights.to(device, dtype)


@dataclass(frozen=True)
class _Cells:
    """The points of a grid as centres of cells: bands of latitude, cut at equal longitudes, of the area of a weight."""

    harmonics: Tensor  # (points, components)
    weights: Tensor  # (points,)
    gradients: Tensor  # (3, points, components): along the sphere
    radii: Tensor  # (points,): the farthest that a point of the cell is from its centre, in radians
    edges: Tensor  # (latitudes + 1,): the bands in y
    longitudes: int

    def bounds(self, coefficients: Tensor) -> Tensor:
        """(n, channels, points) an upper bound of f_c in each cell, by Taylor's theorem."""
        squared = sum((coefficients @ gradient.T).square() for gradient in self.gradients)
        curvature = curvatures(coefficients)[:, :, None]
        slope = torch.sqrt(torch.as_tensor(squared))
        return coefficients @ self.harmonics.T + self.radii * (slope + 0.5 * curvature * self.radii)

    def inside(self, point: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Points of the cells `point`, uniform in area for uniform numbers `first` and `second` in [0, 1)."""
        band, turn = point // self.longitudes, point % self.longitudes
        y = self.edges[band] + first * (self.edges[band + 1] - self.edges[band])
        longitude = 2 * math.pi / self.longitudes * (turn + second - 0.5)
        radius = torch.sqrt((1 - y.square()).clamp(min=0))
        return torch.stack([radius * torch.sin(longitude), y, radius * torch.cos(longitude)], dim=-1)


@lru_cache
def _cells(lmax: int, latitudes: int, dtype: torch.dtype, device: torch.device) -> _Cells:
    """The cells of `_grid`.

    The sums of the first Gauss weights lie between the nodes (Chebyshev, Markov, Stieltjes), so that bands of the area
    of their weights contain them.
    """
    harmonics, weights = _grid(lmax, latitudes, dtype, device)
    grid = S2Grid(all_components(lmax), latitudes, 2 * latitudes - 1)
    in_bands = grid.weights.reshape(latitudes, -1)
    edges = torch.cat([torch.zeros(1, dtype=torch.float64), in_bands.sum(dim=1).cumsum(dim=0)])
    edges = (2 * edges - 1).clamp(-1, 1)
    with torch.inference_mode(False), torch.enable_grad():
        points = grid.points.clone().requires_grad_()
        columns = spherical_harmonics(lmax, points).unbind(dim=1)
        gradients = torch.stack([torch.autograd.grad(y.sum(), points, retain_graph=True)[0] for y in columns], dim=-1)
        own_y = grid.points[:: in_bands.shape[1], 1]
        turn = math.pi / in_bands.shape[1]
        far = torch.stack([_angle(own_y, edge, turn) for edge in (edges[:-1], edges[1:])]).amax(dim=0)
        return _Cells(
            harmonics, weights, gradients.movedim(1, 0).contiguous().to(device, dtype),
            far.repeat_interleave(in_bands.shape[1]).to(device, dtype), edges.to(device), in_bands.shape[1],
        )  # fmt: skip


def _angle(y: Tensor, other: Tensor, longitude: float) -> Tensor:
    """Between points of heights y and other that differ by a longitude."""
    cosine = y * other + torch.sqrt((1 - y.square()) * (1 - other.square())) * math.cos(longitude)
    return torch.acos(cosine.clamp(-1, 1))
