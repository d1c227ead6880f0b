"""The Gaunt tensor product through a two-dimensional Fourier series."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from atomsml.nn.tensor_products.tensor_product import TensorProduct, all_paths, gaunt_weights
from atomsml.o3.spherical_harmonics import spherical_harmonics


class FourierGauntProduct(TensorProduct):
    """The product of two signals on the sphere, whose Fourier coefficients on a torus are convolved by FFT.

    Luo et al. (2024, arXiv:2401.10216, sec. 3). With the polar angle theta run on past the pole, all the way round, the
    sphere becomes a torus, covered twice, on which a signal of degree lmax is a finite Fourier series

        f(theta, phi) = sum over |u|, |v| <= lmax of F_uv exp(i u theta + i v phi).

    Coefficients of order m = +-v determine F_uv for that v alone, so that the change of basis takes O(lmax^3); so
    does the way back, an integral over theta from 0 to pi of exp(i u theta) with each harmonic.
    """

    def __init__(self, lmax: int) -> None:
        paths = all_paths(lmax, odd=False)
        super().__init__(lmax, paths, gaunt_weights(paths))

    def _multiply(self, x: Tensor, y: Tensor) -> Tensor:
        return self._from_torus(self._on_torus(x) * self._on_torus(y))

    def _from_torus(self, values: Tensor) -> Tensor:
        """The degrees up to lmax of a signal whose degrees do not exceed 2 lmax."""
        tables = _tables(self.lmax, values.dtype, values.device)
        spectrum = torch.fft.rfft2(values, dim=(1, 2), norm="forward")
        projected = torch.einsum("vlu,nuvc->nlvc", tables.from_fourier, spectrum[:, :, : self.lmax + 1])
        parts = torch.stack([projected.real, -projected.imag], dim=1).flatten(1, 3)
        return parts.index_select(1, tables.part)

    def _on_torus(self, x: Tensor) -> Tensor:
        """Values at 4 lmax + 1 angles theta and 3 lmax + 1 angles phi: no term that counts is mistaken for another."""
        tables = _tables(self.lmax, x.dtype, x.device)
        lmax, shape = self.lmax, (len(x), self.lmax + 1, self.lmax + 1, x.shape[2])
        cosine, sine = (x.index_select(1, rows).view(shape) for rows in (tables.cosine, tables.sine))
        spectrum = torch.einsum("vul,nlvc->nuvc", tables.to_fourier, torch.complex(cosine, -sine))
        zeros = spectrum.new_zeros(len(x), 2 * lmax, *spectrum.shape[2:])
        padded = torch.cat([spectrum[:, : lmax + 1], zeros, spectrum[:, lmax + 1 :]], dim=1)
        return torch.fft.irfft2(padded, s=(4 * lmax + 1, 3 * lmax + 1), dim=(1, 2), norm="forward")


class _Tables(NamedTuple):
    """Changes of basis; l and v run from 0 to lmax, u in the order of an FFT."""

    cosine: Tensor  # (l * v,) component (l, v) of a feature; any where v > l
    sine: Tensor  # (l * v,) component (l, -v)
    part: Tensor  # (components,) where each stands among real parts (l, v), then negative imaginary parts (l, v)
    to_fourier: Tensor  # (v, u, l), |u| <= lmax
    from_fourier: Tensor  # (v, l, u), |u| <= 2 lmax


@lru_cache
def _tables(lmax: int, dtype: torch.dtype, device: torch.device) -> _Tables:
    degrees = range(lmax + 1)
    pairs = [(l, min(l, v)) for l in degrees for v in degrees]
    part = [(lmax + 1) * (l + (m < 0) * (lmax + 1)) + abs(m) for l in degrees for m in range(-l, l + 1)]
    with torch.inference_mode(False):  # what is first asked for there must still serve later gradients
        return _Tables(
            torch.tensor([l * l + l + v for l, v in pairs], device=device),
            torch.tensor([l * l + l - v for l, v in pairs], device=device),
            torch.tensor(part, device=device),
            torch.from_numpy(_to_fourier(lmax)).to(device, dtype.to_complex()),
            torch.from_numpy(_from_fourier(lmax)).to(device, dtype.to_complex()),
        )


def _to_fourier(lmax: int) -> np.ndarray:
    """The series of a_v cos(v phi) + b_v sin(v phi) has exp(i v phi) with coefficient (a_v - i b_v) / 2 for v > 0."""
    theta = 2 * np.pi * np.arange(2 * lmax + 1) / (2 * lmax + 1)
    series = np.fft.fft(_meridian(lmax, theta), axis=2, norm="forward")  # (v, l, u)
    return series.transpose(0, 2, 1) * np.where(np.arange(lmax + 1) > 0, 0.5, 1.0)[:, None, None]


def _from_fourier(lmax: int) -> np.ndarray:
    """Half the integral over theta of exp(i u theta) sin(theta) Y_lv at phi = 0; the part that counts for real z.

    A series that comes from the sphere is even in theta for even v and odd for odd v, and so is the harmonic: of
    exp(i u theta) the cosine or the sine counts, which makes the integrand a polynomial in cos(theta).
    """
    y, weights = np.polynomial.legendre.leggauss(2 * lmax + 1)
    angles = np.arccos(y) * np.fft.ifftshift(np.arange(-2 * lmax, 2 * lmax + 1))[:, None]  # (u, nodes)
    waves = np.where(np.arange(lmax + 1)[:, None, None] % 2 == 0, np.cos(angles), 1j * np.sin(angles))
    return np.einsum("vlq,vuq,q->vlu", _meridian(lmax, np.arccos(y)), waves, weights / 2)


def _meridian(lmax: int, theta: np.ndarray) -> np.ndarray:
    """Y_lv at phi = 0 along the great circle through the poles, zero where v > l: (v, l, angles)."""
    points = torch.from_numpy(np.stack([np.zeros_like(theta), np.cos(theta), np.sin(theta)], axis=-1))
    harmonics = spherical_harmonics(lmax, points).numpy()
    values = np.zeros((lmax + 1, lmax + 1, len(theta)))
    for l in range(lmax + 1):
        values[: l + 1, l] = harmonics[:, l * l + l : (l + 1) ** 2].T
    return values
