"""Radial functions: bases that expand a distance, envelopes that end it smoothly at the cutoff, and splines."""

from math import expm1, pi, sqrt

import torch
from torch import nn


def bessel_basis(r: torch.Tensor, cutoff: float, num: int) -> torch.Tensor:
    """Spherical Bessel functions of order zero that vanish at the cutoff.

    sqrt(2 / rc) sin(n pi r / rc) / r for n = 1 ... num: J. Gasteiger, J. Groß and S. Günnemann, "Directional message
    passing for molecular graphs", ICLR 2020, eq. 7. Lengths in Å, shapes (E,) -> (E, num). r must be positive.
    """
    wavenumbers = torch.arange(1, num + 1, dtype=r.dtype, device=r.device) * (pi / cutoff)
    r = r.unsqueeze(-1)
    return sqrt(2 / cutoff) * torch.sin(wavenumbers * r) / r


def gaussian_basis(r: torch.Tensor, cutoff: float, num: int, width: float = 1.0) -> torch.Tensor:
    """Gaussians at num evenly spaced centres from 0 to the cutoff, whose standard deviation is `width` spacings.

    exp(-(r - mu_k)^2 / (2 (width d)^2)) with d = rc / (num - 1): K. T. Schütt et al., "SchNet", NeurIPS 2017
    (filter-generating networks). Lengths in Å, shapes (E,) -> (E, num). Raises ValueError for fewer than two Gaussians.
    """
    if num < 2:
        raise ValueError(f"a Gaussian basis has a spacing only from two functions on: give num >= 2, not {num}")
    spacing = cutoff / (num - 1)
    centres = torch.arange(num, dtype=r.dtype, device=r.device) * spacing
    return torch.exp(-0.5 * ((r.unsqueeze(-1) - centres) / (width * spacing)).square())


def polynomial_envelope(r: torch.Tensor, cutoff: float | torch.Tensor, power: int) -> torch.Tensor:
    """A polynomial that falls from 1 at r = 0 to 0 at the cutoff and is exactly zero beyond.

    1 - (p+1)(p+2)/2 x^p + p(p+2) x^(p+1) - p(p+1)/2 x^(p+2) with x = r / rc: J. Gasteiger, J. Groß and
    S. Günnemann, ICLR 2020, eq. 8. Value, first and second derivative vanish at the cutoff. Shapes (E,) -> (E,); the
    cutoff (Å) is one number or one per edge.
    """
    x = r / cutoff
    # the same polynomial is (1 - x)^3 sum_(k<p) (k+1)(k+2)/2 x^k: a sum of positive terms, so nothing cancels
    series = torch.full_like(x, power * (power + 1) / 2)
    for k in range(power - 1, 0, -1):
        series = series * x + k * (k + 1) / 2
    return (1 - x).clamp(min=0) ** 3 * series


def cosine_envelope(r: torch.Tensor, cutoff: float) -> torch.Tensor:
    """(1 + cos(pi r / rc)) / 2 inside the cutoff, zero beyond; value and first derivative vanish at the cutoff.

    The cutoff function f_c of J. Behler, J. Chem. Phys. 134, 074106 (2011). Lengths in Å, shapes (E,) -> (E,).
    """
    return torch.where(r < cutoff, 0.5 * (1 + torch.cos(r * (pi / cutoff))), 0.0)


def exponential_envelope(r: torch.Tensor, cutoff: float, begin: float, steepness: float) -> torch.Tensor:
    """1 up to begin * cutoff, zero from the cutoff on, and between them half a rise mirrored, of Facet.

    1 - g(2 t) / 2 in the nearer half, g(2 - 2 t) / 2 in the farther, with t = (r - begin rc) / (rc - begin rc) and
    g(x) = x^2 sin(pi x / 2) (exp(c x) - 1) / (exp(c) - 1): N. Miklaucic et al., "Facet" (2025). Three derivatives are
    continuous at both ends; at t = 1/2 the second one jumps. Shapes (E,) -> (E,).
    """
    t = ((r / cutoff - begin) / (1 - begin)).clamp(0, 1)
    x = torch.where(t < 0.5, 2 * t, 2 - 2 * t)
    rise = 0.5 * x * x * torch.sin(0.5 * pi * x) * torch.expm1(steepness * x) / expm1(steepness)
    return torch.where(t < 0.5, 1 - rise, rise)


CORE_BEGINS = 0.7  # of the distance at which the core of a pair of atoms ends: closer, all its functions are zero


def fade_in(r: torch.Tensor, end: float | torch.Tensor, begin: float | torch.Tensor = 0.0) -> torch.Tensor:
    """A polynomial that is zero up to begin (Å) and 1 from end (Å) on, with four continuous derivatives.

    t^5 (126 - 420 t + 540 t^2 - 315 t^3 + 70 t^4) with t = (r - begin) / (end - begin). Shapes (E,) -> (E,).
    """
    t = ((r - begin) / (end - begin)).clamp(0, 1)
    return t**5 * (126 + t * (-420 + t * (540 + t * (70 * t - 315))))


def agnesi_transform(
    r: torch.Tensor,
    r0: torch.Tensor,
    q: float | torch.Tensor = 0.9183,
    p: float | torch.Tensor = 4.5791,
    a: float | torch.Tensor = 1.0805,
) -> torch.Tensor:
    """Generalised Agnesi transform of distances to (0, 1], finest around the bond length r0.

    1 / (1 + a x^q / (1 + x^(q-p))) with x = r / r0: W. C. Witt et al., J. Chem. Phys. 159, 164101 (2023), section on
    radial transformations; the default parameters are those of MACE, where r0 is half the sum of the covalent radii.
    Lengths in Å, shapes (E,), (E,) -> (E,). p must be larger than q.
    """
    x = r / r0
    # numerator and denominator multiplied by x^(p-q): no negative power that overflows as r -> 0
    return 1 / (1 + a * x**p / (1 + x ** (p - q)))


class CubicSpline(nn.Module):
    """Cubic splines through values on a uniform grid, evaluated with exact derivatives of every order.

    Boundary condition "not-a-knot": the third derivative is continuous at the second and the last but one knot, which
    keeps the fourth-order accuracy up to both ends (C. de Boor, "A practical guide to splines", chapter IV).

    values (K, C) at K >= 4 evenly spaced points from start to stop (Å). forward: (E,) -> (E, C) in the dtype of values;
    outside the grid the outermost piece is continued. The coefficients are constants: gradients flow to r alone.
    """

    coefficients: torch.Tensor

    def __init__(self, values: torch.Tensor, start: float, stop: float) -> None:
        from scipy import interpolate  # takes longer to import than a model to load

        super().__init__()
        if values.shape[0] < 4 or not stop > start:
            raise ValueError(
                f"a not-a-knot spline needs at least 4 points on an interval of positive length, "
                f"not {values.shape[0]} points from {start} to {stop}: give a finer grid"
            )
        self.start = start
        self.spacing = (stop - start) / (values.shape[0] - 1)
        # fitted over 0, 1, 2, ..., so that the pieces are polynomials of the fraction between two knots
        fit = interpolate.CubicSpline(range(values.shape[0]), values.detach().double().cpu().numpy())
        self.register_buffer("coefficients", torch.tensor(fit.c).movedim(0, 1).contiguous().to(values))

    def forward(self, r: torch.Tensor) -> torch.Tensor:
        position = (r - self.start) / self.spacing
        piece = position.detach().floor().long().clamp(0, len(self.coefficients) - 1)
        fraction = (position - piece).unsqueeze(-1)
        cubic, quadratic, linear, constant = self.coefficients[piece].unbind(dim=1)
        return ((cubic * fraction + quadratic) * fraction + linear) * fraction + constant
