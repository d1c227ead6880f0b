"""The full tensor product with the harmonics of a direction, in the frame of that direction."""

from functools import lru_cache
from math import sqrt

import torch
from torch import Tensor

from atomsml.nn.edge_frame import EdgeFrames
from atomsml.nn.tensor_products.tensor_product import Paths, TensorProduct, in_chunks
from atomsml.o3.clebsch_gordan import clebsch_gordan

Matrices = list[tuple[Tensor, Tensor | None]]
"""A and, where it is not zero, B for each m."""


class SO2Product(TensorProduct):
    """The sum over paths, with any weights, where y is `spherical_harmonics` of one direction for each x.

    With the direction turned to the polar axis, y_l2 is sqrt(2 l2 + 1) for m = 0 and 0 else, which leaves for every
    order m (Passaro and Zitnick 2023, arXiv:2302.03655, sec. 3)

        [z_m ]   [A  -B] [x_m ]        A[l3, l1] = sum over even paths,  B[l3, l1] = sum over odd paths, of
        [z_-m] = [B   A] [x_-m]            w_p sqrt(2 l2 + 1) sqrt(2 l3 + 1) C_p[m, 0, +-m]

    (even and odd l1 + l2 + l3). Of y only the part of degree 1 is looked at: lmax >= 1. Zero has no direction.
    """

    def _multiply(self, x: Tensor, y: Tensor) -> Tensor:
        return self.in_frames(x, EdgeFrames.from_vectors(y[:, 1:4, 0], self.lmax, self.lmax))

    def in_frames(self, x: Tensor, frames: EdgeFrames) -> Tensor:
        """The same for directions whose frames, with all orders m, are known."""
        numbers = torch.arange(len(x), device=x.device)
        matrices = [
            (even @ self.weights.to(x), None if odd is None else odd @ self.weights.to(x))
            for even, odd in _couplings(self.lmax, self.paths, x.dtype, x.device)
        ]
        coupled = [self._couple(chunk, matrices) for chunk in in_chunks(frames.rotate_in(x, numbers))]
        return frames.rotate_out(torch.cat(coupled), numbers, len(x))

    def _couple(self, x: Tensor, matrices: Matrices) -> Tensor:
        """(n, rows of `edge_components`, channels), the same for the result."""
        results, start = [], 0
        for m, (even, odd) in enumerate(matrices):
            degrees, signs = self.lmax + 1 - m, 1 if m == 0 else 2
            block = x[:, start : start + signs * degrees].unflatten(1, (signs, degrees))
            result = _channelwise(even, block)
            if odd is not None:
                plus, minus = _channelwise(odd, block).unbind(1)
                result = result + torch.stack([-minus, plus], dim=1)
            results.append(result.flatten(1, 2))
            start += signs * degrees
        return torch.cat(results, dim=1)


def _channelwise(matrices: Tensor, x: Tensor) -> Tensor:
    """sum over a of matrices[a, o, c] x[n, s, a, c]."""
    result = x[:, :, 0, None] * matrices[0]
    for a in range(1, len(matrices)):
        result.addcmul_(x[:, :, a, None], matrices[a])
    return result


@lru_cache
def _couplings(lmax: int, paths: Paths, dtype: torch.dtype, device: torch.device) -> list[tuple[Tensor, Tensor | None]]:
    """What paths contribute to A and, where there are odd ones and m > 0, to B: (l1, l3, paths) for each m."""
    tables = []
    has_odd = any(sum(path) % 2 == 1 for path in paths)
    for m in range(lmax + 1):
        even, odd = torch.zeros(2, lmax + 1 - m, lmax + 1 - m, len(paths), dtype=torch.float64)
        for p, (l1, l2, l3) in enumerate(paths):
            if m <= min(l1, l3):
                is_odd = (l1 + l2 + l3) % 2
                coefficient = clebsch_gordan(l1, l2, l3)[l1 + m, l2, l3 - m if is_odd else l3 + m]
                (odd if is_odd else even)[l1 - m, l3 - m, p] = sqrt((2 * l2 + 1) * (2 * l3 + 1)) * coefficient
        with torch.inference_mode(False):  # what is first asked for there must still serve later gradients
            tables.append((even.to(device, dtype), odd.to(device, dtype) if has_odd and m > 0 else None))
    return tables
