"""PFGM++: noise from the electric field of the data in D further dimensions (Xu et al., arXiv:2302.04265).

    p(x_t | x_0) ~ (|x_t - x_0|^2 + r^2)^(-(N + D) / 2),    r = sigma sqrt(D),    N the dimension of x

The authors draw a radius R = r sqrt(R1 / (1 - R1)) with R1 ~ Beta(N/2, D/2), and a uniform direction. That is

    x_t = x_0 + sigma e,    e = z / sqrt(chi2 / D),    z normal in the N dimensions, chi2 of D degrees of freedom,

as R1 / (1 - R1) = |z|^2 / chi2: e has Student's distribution of D degrees of freedom, and N need not be known, so that
samples of different sizes, or whose centre is fixed, share D. Noise levels, velocity and steps are those of the
Gaussian process with the same sigma (section 3.1 there: dx/dsigma = (x - E[x_0 | x]) / sigma), which is the limit
D -> infinity. What assumes that noise is normal does not hold: posteriors, hence ancestral steps, and Langevin
dynamics with this score.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import scipy.special
import torch
from torch import Tensor

from atomsml.generative.core.noise import SampleNoise
from atomsml.generative.core.processes.base import Flow, per_sample
from atomsml.generative.core.processes.gaussian import GaussianProcess, Karras
from atomsml.generative.core.spaces.base import Manifold, Space, VectorSpace


@dataclass(frozen=True)
class PFGMPlusPlus(Flow):
    """The noise of the module docstring, on the noise levels of a Gaussian process: x_t = alpha x_0 + sigma e.

    That process need not be the authors', Karras: alpha scales the state, and changes neither p(x_t | x_0) nor the
    trajectories but for that scale.

    Raises:
        ValueError: D is not positive.
    """

    spaces: ClassVar[type] = VectorSpace

    dimensions: float = 128.0  # D; infinity is the Gaussian process itself
    schedule: GaussianProcess = field(default_factory=Karras)

    def __post_init__(self) -> None:
        if not self.dimensions > 0:
            raise ValueError(f"PFGM++ needs a positive number D of further dimensions, got {self.dimensions}")

    def prior(self, space: Space, noise: SampleNoise) -> Tensor:
        x = self.unit_noise(space, noise)
        return per_sample(self.schedule.sigma(x.new_ones(len(x))), x) * x

    def unit_noise(self, space: Space, noise: SampleNoise) -> Tensor:
        """e of the module docstring."""
        normal = noise(space)
        return normal if math.isinf(self.dimensions) else self.spread(normal, noise.of_samples())

    def spread(self, normal: Tensor, uniform: Tensor) -> Tensor:
        """e, made of normal noise (samples, nodes, ...) and of a number uniform on [0, 1) for each sample."""
        if math.isinf(self.dimensions):
            return normal
        # the quantile from above: zero, which can be drawn, gives no noise rather than infinite noise
        halved = scipy.special.gammainccinv(self.dimensions / 2, uniform.double().cpu().numpy())
        factors = torch.from_numpy(halved).mul(2 / self.dimensions).rsqrt()
        return per_sample(factors.to(normal), normal) * normal

    def corrupt(self, space: Space, data: Tensor, t: Tensor, noise: SampleNoise) -> Tensor:
        assert isinstance(space, Manifold)
        return self.interpolate(space, data, self.unit_noise(space, noise), t)

    def interpolate(self, space: Manifold, data: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """x_t, where `noise` is e."""
        return self.schedule.interpolate(space, data, noise, t)

    def velocity(self, space: Manifold, x_t: Tensor, data: Tensor, t: Tensor) -> Tensor:
        return self.schedule.velocity(space, x_t, data, t)
