"""MACE on a CPU without autograd: energies, and forces and stress by the same kernels backwards.

`MACEOnCPU` is what a calculator asks; the steps of the computation are in cpu_plan.py, radial functions as tables
in cpu_tables.py, and the other weights in cpu_weights.py.
"""

from __future__ import annotations

from typing import cast

from atomsml.potentials.corrections.zbl_kernel import ZBLWeights
from atomsml.potentials.mace.cpu_plan import MACEPlan
from atomsml.potentials.mace.cpu_weights import MACEWeights
from atomsml.potentials.mace.model import MACE
from atomsml.programs.predictor import PlannedPredictor
from atomsml.programs.slots import Sizes


class MACEOnCPU(PlannedPredictor[MACEWeights]):
    """A Predictor."""

    def __init__(self, model: MACE) -> None:
        super().__init__(model)
        self._model = cast(MACE, self._double)
        self._zbl = _zbl_weights(self._model) if model.config.zbl else None

    def new_weights(self, elements: tuple[int, ...]) -> MACEWeights:
        return MACEWeights(self._model, elements, self._dtype)

    def new_plan(self, weights: MACEWeights, sizes: Sizes) -> MACEPlan:
        return MACEPlan(self._model.config, weights, self._zbl, sizes, self._dtype)


def _zbl_weights(model: MACE) -> ZBLWeights:
    """For energies that are multiplied by the scale of the model afterwards."""
    exponent, prefactor = model.zbl.screening.tolist()
    factor = model.zbl.factor / model.config.scale
    return ZBLWeights.of(model.elements, model.zbl.power, exponent, prefactor, factor)
