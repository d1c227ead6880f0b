"""MACE on a CPU without autograd: energies, and forces and stress by the same kernels backwards.

`MACEOnCPU` is what a calculator asks; the steps of the computation are in cpu_plan.py, radial functions as tables
in cpu_tables.py, and the other weights in cpu_weights.py.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from ase.data import covalent_radii
from torch import Tensor

from atomsml.graph import AtomicGraph, NeighborGraph
from atomsml.ops.convolution import Edges
from atomsml.potential import Potential, Prediction, check_elements, evaluate, stress_of, sum_by_system
from atomsml.potentials.mace.cpu_plan import MACEPlan, Sizes
from atomsml.potentials.mace.cpu_weights import MACEWeights, prepare
from atomsml.potentials.mace.model import MACE
from atomsml.programs.plan import carry_out

WORTH_A_THREAD = 24  # atoms for each thread
ROOM = 1.1  # memory for edges beyond those of the first graph


class MACEOnCPU:
    """A Predictor. It computes in the type that the model has when it is made, with the weights of that moment.

    What was made ready for a graph serves the next ones of the same atoms, as in molecular dynamics.
    """

    def __init__(self, model: MACE) -> None:
        with torch.inference_mode(False):  # slopes of radial functions are found by autograd
            self._model = copy.deepcopy(model).double().requires_grad_(False)
        self._dtype = model.dtype
        self._repulsion = Repulsion(self._model) if model.config.zbl else None
        self._weights: MACEWeights | None = None
        self._idle: list[MACEPlan] = []  # threads may predict at the same time: each takes the plan it works with

    def weights(self, elements: tuple[int, ...]) -> MACEWeights:
        """Weights for these atomic numbers at least; prepared anew when some are missing."""
        if self._weights is None or not set(elements) <= set(self._weights.elements):
            check_elements(list(elements), self._model.elements)
            with torch.inference_mode(False):
                self._weights = prepare(self._model, elements, self._dtype)
        return self._weights

    def __call__(self, graph: AtomicGraph, forces: bool = True, stress: bool = False) -> Prediction:
        graph = graph.connected(self._model.cutoff)
        if graph.num_atoms == 0:  # nothing to plan
            return evaluate(self._model, graph, forces, stress)
        plan = self._plan(graph)
        plan.load(graph)
        carry_out(plan.steps(gradients=forces or stress), plan.scratch)
        config, slot = self._model.config, plan.slot
        energies = config.scale * plan.energies.double()[slot] + config.shift + self._model.references[plan.in_model]
        atom_energies = energies.to(graph.dtype)
        result = Prediction(
            energy=sum_by_system(atom_energies, graph),
            atom_energies=atom_energies,
            forces=(-config.scale * plan.position_gradient[slot]).to(graph.dtype) if forces else None,
            stress=self._stress(plan.virial[slot], graph) if stress else None,
        )
        self._idle = [plan]
        return result if self._repulsion is None else self._with_repulsion(self._repulsion, result, graph)

    def _with_repulsion(self, repulsion: Repulsion, result: Prediction, graph: NeighborGraph) -> Prediction:
        forces, stress = result.forces, result.stress
        more = evaluate(repulsion, graph.closer_than(repulsion.cutoff), forces is not None, stress is not None)
        return Prediction(
            energy=result.energy + more.energy,
            atom_energies=result.atom_energies + more.atom_energies,
            forces=None if forces is None or more.forces is None else forces + more.forces,
            stress=None if stress is None or more.stress is None else stress + more.stress,
        )

    def _stress(self, virial: Tensor, graph: AtomicGraph) -> Tensor:
        of_atoms = self._model.config.scale * virial.view(-1, 3, 3)
        of_systems = of_atoms.new_zeros(graph.num_systems, 3, 3).index_add(0, graph.batch, of_atoms)
        return stress_of((0.5 * (of_systems + of_systems.mT)).to(graph.dtype), graph)

    def _plan(self, graph: NeighborGraph) -> MACEPlan:
        """One that fits the graph, if there is one."""
        try:
            plan = self._idle.pop()
        except IndexError:
            return self._new_plan(graph)
        return plan if plan.fits(graph, _threads(graph)) else self._new_plan(graph)

    def _new_plan(self, graph: NeighborGraph) -> MACEPlan:
        numbers = graph.numbers.numpy()
        weights = self.weights(tuple(np.unique(numbers).tolist()))
        neighbors = np.bincount(graph.edge_index[1].numpy(), minlength=1).max()
        sizes = Sizes(
            systems=graph.num_systems,
            edges=int(ROOM * graph.num_edges) + 1,
            neighbors=int(ROOM * neighbors) + 1,
            threads=_threads(graph),
        )
        return MACEPlan(self._model.config, weights, numbers, sizes, self._dtype)


def _threads(graph: AtomicGraph) -> int:
    return max(1, min(torch.get_num_threads(), graph.num_atoms // WORTH_A_THREAD))


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
