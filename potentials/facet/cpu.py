"""Facet on a CPU without autograd: energies, and forces and stress by the same kernels backwards.

`FacetOnCPU` is what a calculator asks; the steps of the computation are in cpu_plan.py, the weights in cpu_weights.py.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from atomsml.potentials.facet.cpu_plan import FacetPlan
from atomsml.potentials.facet.cpu_weights import FacetWeights
from atomsml.potentials.facet.model import Facet
from atomsml.programs.predictor import PlannedPredictor
from atomsml.programs.slots import Sizes


class FacetOnCPU(PlannedPredictor[FacetWeights]):
    """A Predictor."""

    def __init__(self, model: Facet) -> None:
        super().__init__(model)
        self._model = cast(Facet, self._double)
        self._isolated: Tensor | None = None

    def new_weights(self, elements: tuple[int, ...]) -> FacetWeights:
        return FacetWeights(self._model, elements, self._dtype)

    def new_plan(self, weights: FacetWeights, sizes: Sizes) -> FacetPlan:
        config, elements = self._model.config, len(self._model.elements)
        if self._isolated is None:  # by the same program: what is equal cancels to the last bit
            none = torch.zeros(elements, dtype=torch.float64)
            self._isolated = FacetPlan(config, weights, none, Sizes(elements, 1, 1, 1), self._dtype).isolated()
        return FacetPlan(config, weights, self._isolated, sizes, self._dtype)
