"""Rotations: orientations of rigid bodies, such as the backbone frames of residues."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from atomsml.generative.core.rotations import quaternion_exp, quaternion_inverse, quaternion_log, quaternion_multiply
from atomsml.generative.core.spaces import igso3
from atomsml.generative.core.spaces.compact import CompactManifold


@dataclass(frozen=True)
class SO3(CompactManifold):
    """Unit quaternions, scalar first; x and -x are the same rotation (`generative/core/rotations.py` has the matrices).

    A velocity is a rotation vector in the frame of the body: exp(x, v) = x Exp(v), log(x, y) = Log(x^-1 y). So it does
    not change where everything is turned in space, and lengths of geodesics are angles in radians, at most pi.
    """

    shape = (4,)

    def noise(self, nodes: int, generator: torch.Generator) -> Tensor:
        x = torch.randn(nodes, 4, generator=generator, dtype=torch.float64)
        return x / x.norm(dim=-1, keepdim=True)

    def project(self, x: Tensor, mask: Tensor) -> Tensor:
        return torch.nn.functional.normalize(x, dim=-1) * mask[..., None]

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        return torch.nn.functional.normalize(quaternion_multiply(x, quaternion_exp(v)), dim=-1)

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        return quaternion_log(quaternion_multiply(quaternion_inverse(x), y))

    def diffuse(self, x: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        return self.exp(x, igso3.from_uniform(self.log(x, noise), sigma))

    def heat_score(self, x: Tensor, source: Tensor, sigma: Tensor) -> Tensor:
        v = self.log(source, x)  # the gradient of a function of the angle points along the geodesic
        return igso3.score_factor(v.norm(dim=-1), sigma[:, None])[..., None] * v
