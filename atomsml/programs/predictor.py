"""Prediction with a plan: what a calculator asks, whatever the architecture; weights and plans are kept."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from atomsml.codegen.checks import address
from atomsml.codegen.loops import Floats, Ints, compiled
from atomsml.graph import AtomicGraph, NeighborGraph
from atomsml.multipoles import Multipoles
from atomsml.neighbors.checks import check_types
from atomsml.potential import Potential, Prediction, check_elements, evaluate, stress_of
from atomsml.programs.chunked_plan import ChunkedPlan
from atomsml.programs.growing_tables import NoRoom
from atomsml.programs.plan import carry_out
from atomsml.programs.slots import Sizes
from atomsml.radial.table import SplineGrid
from atomsml.region import Region, RegionPrediction

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

    def multipoles(self, plan: ChunkedPlan, graph: NeighborGraph) -> Multipoles:
        """What the charge head says, if the model has one, of what the plan has just computed."""
        raise NotImplementedError(f"{type(self).__name__} computes no charges")

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
        check_types(graph)
        graph = graph.connected(self._double.cutoff)
        atoms = graph.num_atoms
        if atoms == 0:  # nothing to plan
            return evaluate(self._double, graph, forces, stress)
        weights, plan = self._plan(graph)
        threads = _threads(graph)
        plan.load(graph)
        carry_out(plan.steps(forces or stress, threads), plan.scratch(threads))
        result = self._result(plan, graph, forces, stress)
        if self._double.charge_head is not None:
            result = result.with_multipoles(self.multipoles(plan, graph))
        self._idle = [(weights, plan)]
        return result

    def of_region(self, region: Region) -> RegionPrediction:
        """What the model says of part of a system, whose number of shells is that of its layers; on one thread."""
        graph, shells = region.graph, region.shells
        check_types(graph)
        weights, plan = self._plan(graph, shells)
        plan.load(graph, shells)
        carry_out(plan.steps(gradients=True, threads=1), plan.scratch(1))
        config, slot = self._double.config, plan.slots.slot[: graph.num_atoms]
        inside, species = slot[: shells[0]], plan.slots.species_of_atom[: shells[0]]
        network = plan.energies[inside].double() - plan.shape.zeros[species] + plan.corrections[inside]
        virials = torch.zeros(graph.num_atoms, 3, 3, dtype=torch.float64)
        virials[: shells[-1]] = config.scale * plan.virial[slot[: shells[-1]]].view(-1, 3, 3)
        virials = 0.5 * (virials + virials.mT)
        result = RegionPrediction(
            atom_energies=config.scale * network + config.shift + self._references(plan)[species],
            forces=-config.scale * plan.position_gradient[slot],
            virial=virials.sum(dim=0),
            atom_virials=virials,
        )
        self._idle = [(weights, plan)]
        return result

    def _result(self, plan: ChunkedPlan, graph: NeighborGraph, forces: bool, stress: bool) -> Prediction:
        atoms, systems, config = graph.num_atoms, graph.num_systems, self._double.config
        network, batch = plan.energies[:atoms].double(), graph.batch.contiguous()
        of_atoms, of_systems = torch.empty(4, atoms, dtype=torch.float64), torch.empty(systems, 10, dtype=torch.float64)
        given = [plan.slots.slot, plan.slots.species_of_atom, batch, network, plan.corrections, plan.shape.zeros]
        arrays = [*given, self._references(plan), plan.position_gradient, plan.virial, of_atoms, of_systems]
        collect(*(address(x) for x in arrays), atoms, systems, float(config.scale), float(config.shift))
        found = of_atoms.to(graph.dtype)
        return Prediction(
            energy=of_systems[:, 0].to(graph.dtype, copy=True),
            atom_energies=found[0],
            forces=found[1:].view(-1, 3) if forces else None,
            stress=stress_of(of_systems[:, 1:].view(-1, 3, 3).to(graph.dtype), graph) if stress else None,
        )

    def _references(self, plan: ChunkedPlan) -> Tensor:
        """(elements of the plan,) eV."""
        known = self._double.elements
        if plan.shape.elements == known:
            return self._double.references
        return self._double.references[[known.index(z) for z in plan.shape.elements]]

    def _plan(self, graph: NeighborGraph, shells: tuple[int, ...] = ()) -> tuple[Weights, ChunkedPlan]:
        """One with room for the graph: the last one, if it fits."""
        last = None
        with suppress(IndexError):  # other threads take it, too
            last = self._idle.pop()
        if last is not None and last[1].knows(graph, shells):
            return last
        weights, needed = self.weights(tuple(np.unique(graph.numbers.numpy()).tolist())), Sizes.of(graph)
        if last is None or last[1].sizes.wasted_on(needed):
            return weights, self.new_plan(weights, needed.times(ROOM))
        if last[0] is weights and last[1].sizes.hold(needed):
            return last
        return weights, self.new_plan(weights, last[1].sizes.larger(needed, MORE_ROOM))


def _threads(graph: AtomicGraph) -> int:
    return max(1, min(torch.get_num_threads(), graph.num_atoms // WORTH_A_THREAD))


@compiled
def collect(
    slot: Ints,
    species: Ints,
    batch: Ints,
    network: Floats,
    corrections: Floats,
    zeros: Floats,
    references: Floats,
    position_gradient: Floats,
    virial: Floats,
    of_atoms: Floats,
    of_systems: Floats,
    atoms: int,
    systems: int,
    scale: float,
    shift: float,
) -> None:
    """Of atoms their energies, then their forces; of systems energy and gradient by the (symmetric) strain.

    What was computed is by slot, and species are those of atoms; gradients that were not computed give any numbers.
    """
    for n in range(10 * systems):
        of_systems[n] = 0.0
    for n in range(atoms):
        t, k, s = slot[n], species[n], 10 * batch[n]
        energy = scale * (network[t] - zeros[k] + corrections[t]) + shift + references[k]
        of_atoms[n] = energy
        of_systems[s] += energy
        for i in range(3):
            of_atoms[atoms + 3 * n + i] = -scale * position_gradient[3 * t + i]
            for j in range(3):
                of_systems[s + 1 + 3 * i + j] += 0.5 * scale * (virial[9 * t + 3 * i + j] + virial[9 * t + 3 * j + i])
