"""Prediction with a plan: what a calculator asks, whatever the architecture; weights and plans are kept."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from atomsml.graph import AtomicGraph, NeighborGraph
from atomsml.potential import Potential, Prediction, check_elements, evaluate, stress_of, sum_by_system
from atomsml.programs.chunked_plan import ChunkedPlan
from atomsml.programs.growing_tables import NoRoom
from atomsml.programs.plan import carry_out
from atomsml.programs.slots import Sizes
from atomsml.radial.table import SplineGrid

WORTH_A_THREAD = 24  # atoms for each thread
ROOM, MORE_ROOM = 1.1, 1.5  # times what the first graph needs, and a larger one


class GrowingWeights(Protocol):
    """Weights of a program, which are made ready for elements as they occur."""

    @property
    def grid(self) -> SplineGrid:
        """Of the radial tables."""

    @property
    def deviations(self) -> tuple[float, float]:
        """Of values and slopes of the tables, over the largest value and slope of a table."""

    def prepare(self, elements: tuple[int, ...]) -> None:
        """Make ready what atoms of these elements need; costs nothing where it is, and changes nothing that was.

        Raises:
            NoRoom: there is none for them. Others may still compute with these weights.
        """


Weights = TypeVar("Weights", bound=GrowingWeights)


class PlannedPredictor(ABC, Generic[Weights]):
    """A Predictor. It computes in the type that the model has when it is made, with the weights of that moment.

    What was made ready for a graph serves the next ones, whatever their atoms.
    """

    def __init__(self, model: Potential) -> None:
        with torch.inference_mode(False):  # slopes of radial functions are found by autograd
            self._double = copy.deepcopy(model).double().requires_grad_(False)
        self._dtype = model.dtype
        self._weights: Weights | None = None
        # threads may predict at the same time: each takes the plan that it works with; and the weights of the plan
        self._idle: list[tuple[Weights, ChunkedPlan]] = []

    @abstractmethod
    def new_weights(self, elements: tuple[int, ...]) -> Weights:
        """With room for these elements at least, ascending atomic numbers; of `self._double` in `self._dtype`."""

    @abstractmethod
    def new_plan(self, weights: Weights, sizes: Sizes) -> ChunkedPlan:
        """A plan for graphs of these sizes."""

    def weights(self, elements: tuple[int, ...]) -> Weights:
        """Weights that are ready for these atomic numbers, ascending."""
        check_elements(list(elements), self._double.elements)
        if self._weights is not None:
            try:
                self._weights.prepare(elements)
                return self._weights
            except NoRoom:
                pass
        with torch.inference_mode(False):
            weights = self.new_weights(elements)
        weights.prepare(elements)
        self._weights = weights
        return weights

    def __call__(self, graph: AtomicGraph, forces: bool = True, stress: bool = False) -> Prediction:
        graph = graph.connected(self._double.cutoff)
        atoms = graph.num_atoms
        if atoms == 0:  # nothing to plan
            return evaluate(self._double, graph, forces, stress)
        weights = self.weights(tuple(np.unique(graph.numbers.numpy()).tolist()))
        plan, threads = self._plan(weights, graph), _threads(graph)
        plan.load(graph)
        carry_out(plan.steps(forces or stress, threads), plan.scratch(threads))
        config, slot, species = self._double.config, plan.slots.slot[:atoms], plan.slots.species_of_atom[:atoms]
        network = plan.energies[slot].double() - plan.shape.zeros[species] + plan.corrections[slot]
        energies = config.scale * network + config.shift + self._references(plan)[species]
        atom_energies = energies.to(graph.dtype)
        result = Prediction(
            energy=sum_by_system(atom_energies, graph),
            atom_energies=atom_energies,
            forces=(-config.scale * plan.position_gradient[slot]).to(graph.dtype) if forces else None,
            stress=self._stress(plan.virial[slot], graph) if stress else None,
        )
        self._idle = [(weights, plan)]
        return result

    def _references(self, plan: ChunkedPlan) -> Tensor:
        """(elements of the plan,) eV."""
        known = self._double.elements
        if plan.shape.elements == known:
            return self._double.references
        return self._double.references[[known.index(z) for z in plan.shape.elements]]

    def _stress(self, virial: Tensor, graph: AtomicGraph) -> Tensor:
        of_atoms = self._double.config.scale * virial.view(-1, 3, 3)
        of_systems = of_atoms.new_zeros(graph.num_systems, 3, 3).index_add(0, graph.batch, of_atoms)
        return stress_of((0.5 * (of_systems + of_systems.mT)).to(graph.dtype), graph)

    def _plan(self, weights: Weights, graph: NeighborGraph) -> ChunkedPlan:
        """One with room for the graph: the last one, if it fits."""
        try:
            made_for, plan = self._idle.pop()
        except IndexError:
            return self.new_plan(weights, Sizes.of(graph).times(ROOM))
        if made_for is weights and plan.fits(graph):
            return plan
        needed = Sizes.of(graph)
        if plan.sizes.wasted_on(needed):
            return self.new_plan(weights, needed.times(ROOM))
        return self.new_plan(weights, plan.sizes.larger(needed, MORE_ROOM))


def _threads(graph: AtomicGraph) -> int:
    return max(1, min(torch.get_num_threads(), graph.num_atoms // WORTH_A_THREAD))
