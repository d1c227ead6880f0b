"""Prediction with a plan: what a calculator asks, whatever the architecture; weights and plans are kept."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from atomsml.graph import AtomicGraph, NeighborGraph
from atomsml.potential import Potential, Prediction, check_elements, evaluate, stress_of, sum_by_system
from atomsml.programs.chunked_plan import ChunkedPlan, Sizes
from atomsml.programs.plan import carry_out

WORTH_A_THREAD = 24  # atoms for each thread
ROOM = 1.1  # memory for edges beyond those of the first graph

Weights = TypeVar("Weights")


class PlannedPredictor(ABC, Generic[Weights]):
    """A Predictor. It computes in the type that the model has when it is made, with the weights of that moment.

    What was made ready for a graph serves the next ones of the same atoms, as in molecular dynamics.
    """

    def __init__(self, model: Potential) -> None:
        with torch.inference_mode(False):  # slopes of radial functions are found by autograd
            self._double = copy.deepcopy(model).double().requires_grad_(False)
        self._dtype = model.dtype
        self._elements: tuple[int, ...] = ()
        self._weights: Weights | None = None
        self._idle: list[ChunkedPlan] = []  # threads may predict at the same time: each takes the plan it works with

    @abstractmethod
    def prepare(self, elements: tuple[int, ...]) -> Weights:
        """Weights for atoms of these elements, ascending atomic numbers, of `self._double` in `self._dtype`."""

    @abstractmethod
    def new_plan(self, weights: Weights, numbers: np.ndarray, sizes: Sizes) -> ChunkedPlan:
        """A plan for atoms of these atomic numbers."""

    def completed(self, result: Prediction, graph: NeighborGraph) -> Prediction:
        """With whatever the plan leaves out."""
        return result

    def weights(self, elements: tuple[int, ...]) -> Weights:
        """Weights for these atomic numbers at least; prepared anew when some are missing."""
        if self._weights is None or not set(elements) <= set(self._elements):
            check_elements(list(elements), self._double.elements)
            with torch.inference_mode(False):
                self._weights, self._elements = self.prepare(elements), elements
        return self._weights

    def __call__(self, graph: AtomicGraph, forces: bool = True, stress: bool = False) -> Prediction:
        graph = graph.connected(self._double.cutoff)
        if graph.num_atoms == 0:  # nothing to plan
            return evaluate(self._double, graph, forces, stress)
        plan = self._plan(graph)
        plan.load(graph)
        carry_out(plan.steps(gradients=forces or stress), plan.scratch)
        config, slot = self._double.config, plan.slot
        network = (plan.energies.double() - plan.shape.zeros[plan.species])[slot]
        energies = config.scale * network + config.shift + self._double.references[plan.in_model]
        atom_energies = energies.to(graph.dtype)
        result = Prediction(
            energy=sum_by_system(atom_energies, graph),
            atom_energies=atom_energies,
            forces=(-config.scale * plan.position_gradient[slot]).to(graph.dtype) if forces else None,
            stress=self._stress(plan.virial[slot], graph) if stress else None,
        )
        self._idle = [plan]
        return self.completed(result, graph)

    def _stress(self, virial: Tensor, graph: AtomicGraph) -> Tensor:
        of_atoms = self._double.config.scale * virial.view(-1, 3, 3)
        of_systems = of_atoms.new_zeros(graph.num_systems, 3, 3).index_add(0, graph.batch, of_atoms)
        return stress_of((0.5 * (of_systems + of_systems.mT)).to(graph.dtype), graph)

    def _plan(self, graph: NeighborGraph) -> ChunkedPlan:
        """One that fits the graph, if there is one."""
        try:
            plan = self._idle.pop()
        except IndexError:
            return self._new_plan(graph)
        return plan if plan.fits(graph, _threads(graph)) else self._new_plan(graph)

    def _new_plan(self, graph: NeighborGraph) -> ChunkedPlan:
        numbers = graph.numbers.numpy()
        weights = self.weights(tuple(np.unique(numbers).tolist()))
        neighbors = np.bincount(graph.edge_index[1].numpy(), minlength=1).max()
        sizes = Sizes(
            systems=graph.num_systems,
            edges=int(ROOM * graph.num_edges) + 1,
            neighbors=int(ROOM * neighbors) + 1,
            threads=_threads(graph),
        )
        return self.new_plan(weights, numbers, sizes)


def _threads(graph: AtomicGraph) -> int:
    return max(1, min(torch.get_num_threads(), graph.num_atoms // WORTH_A_THREAD))
