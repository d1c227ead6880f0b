"""The geodesic random walk: Euler-Maruyama's method for the reverse stochastic equation, on every manifold.

    x_s = exp(x_t, (t - s) (g^2 score / 2 - velocity) + scale g sqrt(t - s) z),    z ~ N(0, 1) in the tangent space

(De Bortoli et al., arXiv:2202.02763, algorithm 1; of frames Yim et al., arXiv:2302.02277, algorithm 1, whose noise
scale is zeta.) The step to t = 0, where no score is defined, goes to the prediction itself, as there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from atomsml.generative.core.fields import Fields, Predict, State
from atomsml.generative.core.noise import SampleNoise
from atomsml.generative.core.processes.base import StochasticFlow
from atomsml.generative.core.samplers.base import GridSampler


@dataclass(frozen=True)
class RandomWalk(GridSampler):
    """One prediction and fresh noise in every step; fields without a score move without noise.

    Raises:
        ValueError: a negative noise scale.
    """

    allowed: ClassVar[type] = StochasticFlow

    noise_scale: float = 1.0  # 1: the distribution that was learnt; less: nearer to its modes

    def __post_init__(self) -> None:
        if not self.noise_scale >= 0:
            raise ValueError(f"noise_scale must not be negative, got {self.noise_scale}")

    def step(
        self, predict: Predict, fields: Fields, state: State, t: Tensor, s: Tensor, noise: SampleNoise, steps: int
    ) -> State:
        data = predict(state, t)
        if bool((s == 0).all()):
            return data
        stepped = {}
        for name, field in fields.items():
            assert isinstance(field.process, StochasticFlow)
            stepped[name] = field.process.random_step(
                field.space, state[name], data[name], t, s, noise, self.noise_scale
            )
        return stepped
