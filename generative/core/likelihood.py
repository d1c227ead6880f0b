"""How likely a generator finds samples that it has not learnt from: the mean of its bound of -log p."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import torch

from atomsml.generative.core.generator import Generator
from atomsml.generative.core.sampling import batches_of_like_size
from atomsml.generative.core.set import SampleSet

AT_ONCE = 64  # samples in a batch


@dataclass(frozen=True)
class Likelihood:
    """A bound of -log p in nats, of which lower is better; with the 95 % interval of its mean over samples."""

    nll_bound: float
    low: float
    high: float
    of: int  # samples
    infinite: int  # further samples, which are impossible for the generator: of a size that it never draws

    def to_json(self) -> dict[str, Any]:
        """JSON has no NaN: null instead."""
        return {key: None if isinstance(x, float) and not math.isfinite(x) else x for key, x in asdict(self).items()}


def likelihood(model: Generator[Any, Any, Any], samples: SampleSet[Any], draws: int = 1, seed: int = 0) -> Likelihood:
    """The mean of `model.nll_bound` over samples, each with so many draws of times and noise.

    Raises:
        ValueError: the generator has no bound, or a sample cannot be given to it.
        KeyError: the samples lack one of its conditions.
    """
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    bounds = np.zeros(len(samples))
    for rows in batches_of_like_size(samples.sizes.tolist(), max_samples=AT_ONCE):
        batch = samples.batch(np.array(rows), model.config.conditions).to(device)
        with torch.no_grad():
            drawn = torch.stack([model.nll_bound(batch, generator) for _ in range(draws)])
        bounds[rows] = drawn.double().mean(dim=0).cpu().numpy()
    return _mean(bounds)


def _mean(bounds: np.ndarray) -> Likelihood:
    """By the normal distribution of means; the draws of a sample count as one number."""
    possible = bounds[~np.isposinf(bounds)]
    of, infinite = len(possible), len(bounds) - len(possible)
    if of < 2:  # no spread is known
        return Likelihood(float(possible.mean()) if of else math.nan, math.nan, math.nan, of, infinite)
    mean, error = float(possible.mean()), float(possible.std(ddof=1)) / math.sqrt(of)
    reach = NormalDist().inv_cdf(0.975) * error
    return Likelihood(mean, mean - reach, mean + reach, of, infinite)
