"""The Gaunt product with a filter about a direction, in the frame of that direction."""

from functools import lru_cache
from math import sqrt

import numpy as np
import torch
from torch import Tensor

from atomsml.nn.edge_frame import EdgeFrames
from atomsml.nn.tensor_products.tensor_product import in_chunks
from atomsml.o3.spherical_harmonics import spherical_harmonics


def gaunt_convolution(x: Tensor, weights: Tensor, frames: EdgeFrames) -> Tensor:
    """The product of signals with coefficients x_lm and w_l Y_lm(r), r the direction that a frame makes its pole.

    About its own pole such a filter has m = 0 alone, with coefficients w_l sqrt(2l + 1). So it is a function f of the
    polar angle theta, and the product leaves each order m of x to itself (Luo et al. 2024, arXiv:2401.10216, after
    Passaro and Zitnick 2023, arXiv:2302.03655):

        z_lm = integral over theta of Y_lm(theta) f(theta) sum over l' of Y_l'm(theta) x_l'm

    with the harmonics Y along a meridian. Gauss-Legendre quadrature makes it exact in O(lmax^3) operations, whatever
    the weights, which radial functions make different for every edge.

    Shapes (n, (lmax + 1)^2, channels), (n, lmax + 1, channels) -> (n, (lmax + 1)^2, channels).

    Raises:
        ValueError: the frames leave out orders m.
    """
    if frames.mmax < frames.lmax:
        raise ValueError(f"the frames keep orders up to {frames.mmax}; give frames with all orders up to {frames.lmax}")
    numbers = torch.arange(len(x), device=x.device)
    turned = frames.rotate_in(x, numbers)
    pairs = zip(in_chunks(turned), in_chunks(weights), strict=True)
    products = [_about_pole(part, filters, frames.lmax) for part, filters in pairs]
    return frames.rotate_out(torch.cat(products), numbers, len(x))


def _about_pole(x: Tensor, weights: Tensor, lmax: int) -> Tensor:
    """Rows of x as `edge_components`."""
    filters, to_angles, from_angles = _tables(lmax, x.dtype, x.device)
    values = (filters @ weights)[:, None]  # (n, 1, angles, channels)
    results, start = [], 0
    for m, (there, back) in enumerate(zip(to_angles, from_angles, strict=True)):
        signs, degrees = 1 if m == 0 else 2, lmax + 1 - m
        block = x[:, start : start + signs * degrees].unflatten(1, (signs, degrees))
        results.append((back @ (values * (there @ block))).flatten(1, 2))
        start += signs * degrees
    return torch.cat(results, dim=1)


@lru_cache
def _tables(lmax: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """The filter of each degree at the angles, (angles, l); for each m the harmonics there, (angles, l), and duals."""
    y, quadrature = np.polynomial.legendre.leggauss(3 * lmax // 2 + 1)  # exact for three factors
    around = np.sqrt(1 - y**2)
    # a meridian on which cos(m phi) is 1
    meridian = spherical_harmonics(lmax, torch.from_numpy(np.stack([np.zeros_like(y), y, around], axis=1)))
    with torch.inference_mode(False):  # what is first asked for there must still serve later gradients
        there, back = [], []
        for m in range(lmax + 1):
            values = meridian[:, [l * l + l + m for l in range(m, lmax + 1)]]
            over_phi = 0.5 if m == 0 else 0.25  # mean over the sphere of a function of theta, of cos(m phi)^2 too
            there.append(values.to(device, dtype))
            back.append((torch.from_numpy(quadrature * over_phi)[:, None] * values).T.to(device, dtype))
        return there[0] * there[0].new_tensor([sqrt(2 * l + 1) for l in range(lmax + 1)]), there, back
