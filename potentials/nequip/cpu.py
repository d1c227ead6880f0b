"""NequIP on a CPU without autograd: energies, and forces and stress by the same kernels backwards.

`NequIPOnCPU` is what a calculator asks; the steps of the computation are in cpu_plan.py, radial functions as tables
in cpu_tables.py, and the other weights in cpu_weights.py.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from atomsml.potentials.nequip.cpu_plan import NequIPPlan
from atomsml.potentials.nequip.cpu_weights import NequIPWeights
from atomsml.potentials.nequip.model import NequIP
from atomsml.programs.predictor import PlannedPredictor
from atomsml.programs.slots import Sizes


class NequIPOnCPU(PlannedPredictor[NequIPWeights]):
    """A Predictor."""

    def __init__(self, model: NequIP) -> None:
        super().__init__(model)
        self._model = cast(NequIP, self._double)
        self._isolated: Tensor | None = None

    def new_weights(self, elements: tuple[int, ...]) -> NequIPWeights:
        return NequIPWeights(self._model, elements, self._dtype)

    def new_plan(self, weights: NequIPWeights, sizes: Sizes) -> NequIPPlan:
        return NequIPPlan(self._model.config, weights, self._zeros(weights), sizes, self._dtype)

    def _zeros(self, weights: NequIPWeights) -> Tensor:
        """(elements,) float64: what a plan says of an atom whose energy is zero."""
        none = torch.zeros(len(self._model.elements), dtype=torch.float64)
        if not self._model.config.relative_to_isolated:
            constant = weights.readout_constant
            return none - (constant if weights.element_scales is None else constant * self._model.element_scales)
        if self._isolated is None:  # by the same program: what is equal cancels to the last bit
            plan = NequIPPlan(self._model.config, weights, none, Sizes(len(none), 1, 1, 1), self._dtype)
            self._isolated = plan.isolated()
        return self._isolated
