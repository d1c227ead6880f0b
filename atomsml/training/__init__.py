"""Train potentials on labelled structures."""

from atomsml.training.loop import Step, TrainingConfig, errors, fit

__all__ = ["Step", "TrainingConfig", "errors", "fit"]
