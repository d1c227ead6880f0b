"""Classifier-free guidance: away from what a model predicts without the condition (Ho & Salimans, arXiv:2207.12598).

    guided = without + weight (with - without)                     its w is weight - 1

On manifolds the line is a geodesic. Probabilities of categories are guided by their logarithms: with^weight
without^(1 - weight), normalised.
"""

from __future__ import annotations

import torch
from torch import Tensor

from atomsml.generative.core.fields import Fields, Predict, State
from atomsml.generative.core.spaces.base import Manifold


def classifier_free(conditional: Predict, unconditional: Predict, weight: float, fields: Fields) -> Predict:
    """A prediction of the data: weight 0 ignores the condition, 1 follows it, more exaggerates it.

    At 0 and 1 only one of the two is called.
    """
    if weight == 1:
        return conditional
    if weight == 0:
        return unconditional

    def predict(state: State, t: Tensor) -> State:
        given, free = conditional(state, t), unconditional(state, t)
        guided = {}
        for name, field in fields.items():
            if isinstance(field.space, Manifold):
                away = field.space.log(free[name], given[name])
                guided[name] = field.space.exp(free[name], weight * away)
            else:
                logits = weight * _log(given[name]) + (1 - weight) * _log(free[name])
                guided[name] = logits.softmax(dim=-1)
        return guided

    return predict


def _log(probabilities: Tensor) -> Tensor:
    """Finite: the difference of two infinite logarithms is undefined."""
    return probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny).log()
