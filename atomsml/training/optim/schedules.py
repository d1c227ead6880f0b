"""Schedules of the learning rate: a pure function of how much of the run is done, and the plateau rule."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ScheduleConfig:
    """How the learning rate moves; every length is a fraction of the run, be that measured in steps or in minutes."""

    name: Literal["cosine", "wsd", "plateau", "constant"] = "cosine"
    warmup: float = 0.02  # fraction of the run over which the rate rises from zero
    final: float = 0.0  # smallest rate over peak rate: at the end of cosine and wsd, at last in plateau
    decay: float = 0.3  # wsd: fraction of the run, at its end, over which the rate falls
    decay_shape: Literal["linear", "sqrt"] = "sqrt"  # wsd: how it falls, 1 - x or 1 - sqrt(x)
    patience: int = 5  # plateau: evaluations without a better loss that are borne before the rate falls
    factor: float = 0.5  # plateau: the rate falls to this fraction of itself

    def __post_init__(self) -> None:
        decay = self.decay if self.name == "wsd" else 0.0
        if not (self.warmup >= 0 and decay >= 0 and self.warmup + decay <= 1):
            raise ValueError(f"schedule warmup {self.warmup} and decay {decay} must be fractions that fit in 1")
        if not 0 <= self.final <= 1:
            raise ValueError(f"schedule final must lie in 0..1; got {self.final}")
        if not 0 < self.factor < 1:
            raise ValueError(f"schedule factor must lie between 0 and 1; got {self.factor}")
        if self.patience < 0:
            raise ValueError(f"schedule patience must not be negative; got {self.patience}")


def learning_rate_factor(config: ScheduleConfig, progress: float) -> float:
    """The learning rate over its peak, when the fraction `progress` (0..1) of the run is done.

    A linear warm-up, and then, with x the fraction of the falling part that is done and f = `final`:

    - cosine: f + (1 - f) (1 + cos(pi x)) / 2 (Loshchilov and Hutter, arXiv:1608.03983);
    - wsd (warm-up, stable, decay): 1 until the last `decay` of the run, then f + (1 - f) (1 - x), or (1 - sqrt(x))
      (Haegele et al., arXiv:2405.18392);
    - constant and plateau: 1; `Plateau` has a factor of its own, by which to multiply.
    """
    if progress < config.warmup:
        return progress / config.warmup
    if config.name == "cosine":
        x = _fraction_done(progress, config.warmup)
        return config.final + (1 - config.final) * 0.5 * (1 + math.cos(math.pi * x))
    if config.name == "wsd":
        x = _fraction_done(progress, 1 - config.decay)
        fallen = x if config.decay_shape == "linear" else math.sqrt(x)
        return config.final + (1 - config.final) * (1 - fallen)
    return 1.0


def _fraction_done(progress: float, start: float) -> float:
    """Of the part of the run from `start` to its end; 0 before it, also where that part is empty."""
    return 0.0 if progress <= start else min((progress - start) / (1 - start), 1.0)


class Plateau:
    """Lowers the learning rate when the validation loss has not improved for more than `patience` evaluations.

    Other schedules know themselves when to fall: theirs is left alone.
    """

    def __init__(self, config: ScheduleConfig) -> None:
        self.config = config
        self.factor = 1.0  # learning rate over its peak
        self.best = math.inf
        self.waited = 0

    def update(self, valid_loss: float) -> float:
        """Take the loss of one more evaluation (NaN is no improvement) and return the learning rate over its peak."""
        if self.config.name != "plateau":
            return self.factor
        if valid_loss < self.best:
            self.best, self.waited = valid_loss, 0
        else:
            self.waited += 1
        if self.waited > self.config.patience:
            self.factor, self.waited = max(self.factor * self.config.factor, self.config.final), 0
        return self.factor

    def state(self) -> dict[str, float]:
        """Plain numbers from which `restore` goes on; `best` is infinite before the first update."""
        return {"factor": self.factor, "best": self.best, "waited": self.waited}

    def restore(self, state: dict[str, float]) -> None:
        """Go on from what `state` returned."""
        self.factor, self.best, self.waited = state["factor"], state["best"], int(state["waited"])
