"""MACE on a CPU without autograd: energies, and forces and stress by the same kernels backwards.

`MACEOnCPU` is what a calculator asks; the steps of the computation are in cpu_plan.py, radial functions as tables
in cpu_tables.py, and the other weights in cpu_weights.py.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from ase.data import covalent_radii
from torch import Tensor

from atomsml.graph import NeighborGraph
from atomsml.ops.convolution import Edges
from atomsml.potential import Potential, Prediction, evaluate
from atomsml.potentials.mace.cpu_plan import MACEPlan
from atomsml.potentials.mace.cpu_weights import MACEWeights, prepare
from atomsml.potentials.mace.model import MACE
from atomsml.programs.chunked_plan import Sizes
from atomsml.programs.predictor import PlannedPredictor


class MACEOnCPU(PlannedPredictor[MACEWeights]):
    """A Predictor."""

    def __init__(self, model: MACE) -> None:
        super().__init__(model)
        self._model = cast(MACE, self._double)
        self._repulsion = Repulsion(self._model) if model.config.zbl else None

    def prepare(self, elements: tuple[int, ...]) -> MACEWeights:
        return prepare(self._model, elements, self._dtype)

    def new_plan(self, weights: MACEWeights, numbers: np.ndarray, sizes: Sizes) -> MACEPlan:
        return MACEPlan(self._model.config, weights, numbers, sizes, self._dtype)

    def completed(self, result: Prediction, graph: NeighborGraph) -> Prediction:
        """With the repulsion at short range."""
        if self._repulsion is None:
            return result
        forces, stress = result.forces, result.stress
        near = graph.closer_than(self._repulsion.cutoff)
        more = evaluate(self._repulsion, near, forces is not None, stress is not None)
        return Prediction(
            energy=result.energy + more.energy,
            atom_energies=result.atom_energies + more.atom_energies,
            forces=None if forces is None or more.forces is None else forces + more.forces,
            stress=None if stress is None or more.stress is None else stress + more.stress,
        )


class Repulsion(Potential):
    """The Ziegler-Biersack-Littmark part of a MACE alone; it acts between very few atoms and needs no program."""

    def __init__(self, model: MACE) -> None:
        super().__init__(model.config)
        self.zbl = model.zbl
        self.cutoff = 2 * max(covalent_radii[z] for z in model.elements)

    def forward(self, graph: NeighborGraph) -> Tensor:
        edges = Edges.from_index(graph.edge_index, graph.num_atoms)
        lengths = torch.linalg.vector_norm(graph.edge_vectors(), dim=1)
        energies: Tensor = self.zbl(lengths, graph.numbers, edges)
        return energies
