"""What a network may predict, turned into each other: data, noise, velocity, score.

With x_t = alpha x_0 + sigma noise and rates alpha', sigma' (d / dt):

    velocity = alpha' x_0 + sigma' noise
    score    = -noise / sigma
    x_0      = (sigma' x_t - sigma velocity) / (alpha sigma' - alpha' sigma)
    noise    = (alpha velocity - alpha' x_t) / (alpha sigma' - alpha' sigma)

The maps are linear for given x_t, so that they hold for the expected values that networks learn. What does not exist is
not finite: data from noise where alpha = 0, noise from data where sigma = 0.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from atomsml.generative.core.processes.base import per_sample
from atomsml.generative.core.processes.gaussian import GaussianProcess

Quantity = Literal["data", "noise", "velocity", "score"]


def convert(
    prediction: Tensor, source: Quantity, target: Quantity, x_t: Tensor, process: GaussianProcess, t: Tensor
) -> Tensor:
    """The `source` that was predicted for the state x_t (samples, nodes, ...) at t (samples,), as the `target`."""
    if source == target:
        return prediction
    data, noise = _data_and_noise(prediction, source, x_t, process, t)
    if target == "data":
        return data
    if target == "noise":
        return noise
    if target == "score":
        return -noise / per_sample(process.sigma(t), x_t)
    return per_sample(process.alpha_rate(t), x_t) * data + per_sample(process.sigma_rate(t), x_t) * noise


def _data_and_noise(
    prediction: Tensor, source: Quantity, x_t: Tensor, process: GaussianProcess, t: Tensor
) -> tuple[Tensor, Tensor]:
    alpha, sigma = per_sample(process.alpha(t), x_t), per_sample(process.sigma(t), x_t)
    if source == "data":
        return prediction, process.noise(x_t, prediction, t)
    if source == "velocity":
        alpha_rate, sigma_rate = per_sample(process.alpha_rate(t), x_t), per_sample(process.sigma_rate(t), x_t)
        determinant = alpha * sigma_rate - alpha_rate * sigma
        data = (sigma_rate * x_t - sigma * prediction) / determinant
        return data, (alpha * prediction - alpha_rate * x_t) / determinant
    noise = prediction if source == "noise" else -sigma * prediction
    return (x_t - sigma * noise) / alpha, noise
