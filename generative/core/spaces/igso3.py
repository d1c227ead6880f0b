"""The isotropic Gaussian on rotations: the heat kernel of SO(3), where Brownian motion is after the variance s^2.

    f(w; s) = sum_l (2 l + 1) exp(-l (l + 1) s^2 / 2) sin((l + 1/2) w) / sin(w / 2)                  (series)
            = sqrt(2 pi) exp(s^2 / 8) / s^3
              * sum_k (-1)^k (w - 2 pi k) exp(-(w - 2 pi k)^2 / (2 s^2)) / sin(w / 2)                (images)

(Nikolayev & Savyolov, Texture, Stress, and Microstructure 29, 201, 1997; Leach et al., ICLR 2022 workshop; Yim et al.,
arXiv:2302.02277, Proposition 1.) The density is with respect to the uniform distribution, so f -> 1 for large s; of the
angle itself it is f(w) (1 - cos w) / pi. The second line is the first by Poisson's summation. One of them is always
short: for s <= 1 the images k = -1, 0, 1 leave out less than 1e-15 of the sum, for s >= 1 ten terms of the series do.
So no table of a thousand terms is needed, and the small-s approximation (k = 0, and 1 near pi) is exact.

| symbol | name | meaning |
|---|---|---|
| w | angle | of the rotation, 0 to pi |
| s | sigma | standard deviation of each component of a small rotation vector |

Everything is summed in float64, without cancellation at w = 0, and comes back in the type of the angle.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_DEGREES = 10
_GRID = 2048  # angles on which a distribution function is tabulated, up to ten sigma


def log_density(angle: Tensor, sigma: Tensor) -> Tensor:
    """log f, in the shape that both arguments broadcast to."""
    w, s = torch.broadcast_tensors(angle.double(), sigma.double())
    images, _ = _images(w, s.clamp_max(1))
    gaussian = s.square() / 8 - (w / s).square() / 2 - 3 * torch.log(s) + math.log(2 * math.sqrt(2 * math.pi))
    by_images = gaussian - torch.log(torch.sinc(w / (2 * math.pi))) + torch.log(images)
    by_series = torch.log(_series(w, s.clamp_min(1))[0])
    return torch.where(s < 1, by_images, by_series).to(angle.dtype)


def score_factor(angle: Tensor, sigma: Tensor) -> Tensor:
    """(d log f / dw) / w: times the rotation vector, this is the gradient of log f."""
    w, s = torch.broadcast_tensors(angle.double(), sigma.double())
    value, slope = _images(w, s.clamp_max(1))
    half = w.clamp_min(0.02) / 2
    # of log(w / sin(w / 2)): (1 - h cot h) / w^2 with h = w / 2, by its series where that would be 0 / 0
    sine = torch.where(w < 0.02, 1 / 12 + w.square() / 720, (1 - half / torch.tan(half)) / (2 * half).square())
    by_images = sine - 1 / s.square() + slope / value
    value, slope = _series(w, s.clamp_min(1))
    return torch.where(s < 1, by_images, slope / value).to(angle.dtype)


def mean_square_score(sigma: Tensor) -> Tensor:
    """E |grad log f|^2, of any shape: 3 / s^2 where the heat is narrow."""
    s = sigma.double()[..., None]
    cell = (10 * s).clamp_max(math.pi) / _GRID
    w = cell * (torch.arange(_GRID, dtype=s.dtype, device=s.device) + 0.5)  # the midpoint rule
    weight = torch.exp(log_density(w, s)) * (1 - torch.cos(w))
    square = (score_factor(w, s) * w).square()
    return ((weight * square).sum(dim=-1) / weight.sum(dim=-1)).to(sigma.dtype)


def from_uniform(vectors: Tensor, sigma: Tensor) -> Tensor:
    """Rotation vectors of uniform rotations (samples, nodes, 3), shortened to those of the sigma (samples,) given.

    The axis stays; the angle goes from one distribution, (w - sin w) / pi, to the same quantile of the other.
    """
    s = sigma.double()
    top = (10 * s).clamp_max(math.pi)
    grid = top[:, None] * torch.linspace(0, 1, _GRID, dtype=s.dtype, device=s.device)  # (samples, grid)
    density = torch.exp(log_density(grid, s[:, None])) * (1 - torch.cos(grid))
    cells = (density[:, 1:] + density[:, :-1]) / 2
    cdf = torch.nn.functional.pad(cells.cumsum(dim=1), (1, 0))
    uniform = torch.linalg.vector_norm(vectors.double(), dim=-1)  # (samples, nodes)
    level = (uniform - torch.sin(uniform)) / math.pi * cdf[:, -1:]
    cell = (torch.searchsorted(cdf, level, right=True) - 1).clamp(0, _GRID - 2)
    below, inside = cdf.gather(1, cell), cells.gather(1, cell)
    angle = (cell + (level - below) / inside) * top[:, None] / (_GRID - 1)
    return (angle / uniform.clamp_min(1e-300))[..., None].to(vectors.dtype) * vectors


def _series(w: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """f and (df/dw) / w by the first line, with sin((l + 1/2) w) / sin(w / 2) = 1 + 2 sum_{j <= l} cos(j w)."""
    character, character_slope = torch.ones_like(w), torch.zeros_like(w)
    value, slope = character.clone(), character_slope.clone()
    for degree in range(1, _DEGREES + 1):
        character = character + 2 * torch.cos(degree * w)
        character_slope = character_slope - 2 * degree**2 * torch.sinc(degree * w / math.pi)
        weight = (2 * degree + 1) * torch.exp(-degree * (degree + 1) / 2 * s.square())
        value, slope = value + weight * character, slope + weight * character_slope
    return value, slope


def _images(w: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """The sum over k = -1, 0, 1 divided by its term k = 0, and the derivative of that in w, divided by w.

    The pair k = -1, 1 makes 1 - 2 e^-c (cosh a - b sinh a / a) with a = 2 pi w / s^2, b = (2 pi / s)^2, c = b / 2.
    """
    b = (2 * math.pi / s).square()
    a = 2 * math.pi * w / s.square()
    c = b / 2
    cosh = (torch.exp(a - c) + torch.exp(-a - c)) / 2  # times e^-c; a <= c, so nothing overflows
    far = a.clamp_min(0.02)
    small = torch.exp(-c)
    a2 = a.square()
    sinh = torch.where(a < 0.02, small * (1 + a2 / 6), (torch.exp(far - c) - torch.exp(-far - c)) / (2 * far))
    curve = torch.where(a < 0.02, small * (1 / 3 + a2 / 30), (cosh - sinh) / far.square())
    # d cosh(a) / dw / w = (a / w)^2 sinh(a) / a, and d (sinh(a) / a) / dw / w = (a / w)^2 (cosh a - sinh a / a) / a^2
    return 1 - 2 * (cosh - b * sinh), -2 * (b / s.square()) * (sinh - b * curve)
