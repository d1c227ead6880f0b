"""MACE on a CPU without autograd: energies, and forces and stress by the same kernels backwards.

`MACEOnCPU` is what a calculator asks; the steps of the computation are in cpu_plan.py, radial functions as tables
in cpu_tables.py, and the other weights in cpu_weights.py.
"""

from __future__ import annotations

from typing import cast

from atomsml.graph import NeighborGraph
from atomsml.multipoles import Multipoles
from atomsml.potentials.corrections.zbl_kernel import ZBLWeights
from atomsml.potentials.mace.cpu_plan import MACEPlan
from atomsml.potentials.mace.cpu_weights import MACEWeights
from atomsml.potentials.mace.model import MACE, scalars_and_vectors
from atomsml.programs.chunked_plan import ChunkedPlan
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

    def multipoles(self, plan: ChunkedPlan, graph: NeighborGraph) -> Multipoles:
        assert isinstance(plan, MACEPlan)
        assert self._model.charge_head is not None
        slot, channels = plan.slots.slot[: graph.num_atoms], self._model.config.channels
        features = [x[slot, :, :channels].double() for x in plan.all_features()]
        found: Multipoles = self._model.charge_head(*scalars_and_vectors(features), graph, self._model.total_charge)
        return found


def _zbl_weights(model: MACE) -> ZBLWeights:
    """For energies that are multiplied by the scale of the model afterwards."""
    exponent, prefactor = model.zbl.screening.tolist()
    factor = model.zbl.factor / model.config.scale
    return ZBLWeights.of(model.elements, model.zbl.power, exponent, prefactor, factor)
