"""Model: the energies, forces and stresses of a State, by a predictor, with a neighbour list that serves many steps."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from atomsml.device import PRECISIONS
from atomsml.geometry import ImpossibleGeometry
from atomsml.graph import AtomicGraph
from atomsml.neighbors.checks import CLOSEST, check_indices, connect_checked
from atomsml.neighbors.verlet import VerletList
from atomsml.potential import Prediction, Predictor
from atomsml.simulate.state import Flat, PerAtom, PerSystem, State
from atomsml.uncertainty.last_layer import LastLayerUncertainty

if TYPE_CHECKING:
    from atomsml.interfaces.ase import AtomsMLCalculator

SKIN = 0.5  # A: how much farther than the cutoff a neighbour list reaches, to serve several steps


@dataclass(eq=False)
class ListOrigin(Flat):
    """Where atoms and cells were when their neighbour list was made; by it a run goes on bit for bit."""

    positions: PerAtom
    cell: PerSystem


class Model:
    """Asks a predictor about states.

    Systems may come and go between two calls. One without an answer, because atoms of it lie in one place or a number
    is not finite, does not stop the others: its energy, forces and stress are NaN.

    Args:
        predict: a Predictor, as `Potential.predictor()` and `AtomsMLCalculator.predict_batch` are, or any function of
            a graph, `forces` and `stress` that returns a Prediction.
        cutoff: A; where it is given, the graphs come with a neighbour list of this cutoff and a skin, which is kept
            as long as it holds. Without it they come without.
    """

    def __init__(self, predict: Predictor, cutoff: float | None = None, skin: float = SKIN) -> None:
        self.predict = predict
        self.neighbors = None if cutoff is None else VerletList(cutoff, skin)
        self._listed: Tensor | None = None  # indices of the systems of the last call
        self.parts = 1  # into which the systems are divided, because memory did not suffice for all

    @property
    def reach(self) -> float | None:
        """A: how far the neighbour lists reach, if there are any."""
        return None if self.neighbors is None else self.neighbors.cutoff + self.neighbors.skin

    @staticmethod
    def of(calculator: AtomsMLCalculator) -> Model:
        """What a calculator computes, on its device and in its precision, of many systems at once.

        Without a skin where it would cost autograd as much as other neighbours.
        """
        dtype, _ = PRECISIONS[calculator.parameters["precision"]]

        def predict(graph: AtomicGraph, forces: bool = True, stress: bool = False) -> Prediction:
            if graph.device != calculator.device or graph.dtype != dtype:
                graph = graph.to(calculator.device, dtype)
            return calculator.predict(graph, forces, stress)

        thin = calculator.parameters["exact"] or isinstance(calculator.potential, LastLayerUncertainty)
        return Model(predict, calculator.potential.cutoff, 0.0 if thin else SKIN)

    def __call__(self, state: State, stress: bool = False) -> Prediction:
        """Fill energy and forces of the state, and its stress where it is asked for; NaN where there is none.

        What is returned holds whatever else the model says of these systems.
        """
        try:
            found = self._evaluate(state, stress)
        except ImpossibleGeometry:
            if self.neighbors is not None:
                self.neighbors.forget()  # of whoever asks again, the list is looked at again
            possible = self._possible(state)
            if possible.all():
                raise
            found = self._of_possible(state, possible, stress)
        assert found.forces is not None
        state.energy, state.forces = found.energy.to(state.device).double(), found.forces.to(state.device).double()
        state.stress = (
            torch.full_like(state.cell, torch.nan) if found.stress is None else found.stress.to(state.device).double()
        )
        return found

    def _evaluate(self, state: State, stress: bool) -> Prediction:
        """With the neighbour list that there is, on a GPU, before it is known whether it holds; anew if it does not.

        The GPU computes while the answer is on its way; nothing is kept that came of a list that no longer held.
        """
        if self.neighbors is not None and (kept := self.neighbors.kept(state.graph)) is not None:
            (graph, holds), self._listed = kept, state.index
            found = self._predict(graph, stress)
            if holds():
                return found
            self.neighbors.forget()
        return self._predict(self._connected(state), stress)

    def _predict(self, graph: AtomicGraph, stress: bool) -> Prediction:
        """Of all systems at once, or in parts, twice as many whenever memory does not suffice; a warning says so."""
        while True:
            try:
                found = [self.predict(part, forces=True, stress=stress) for part in self._divided(graph)]
                return Prediction.join(found)
            except (torch.OutOfMemoryError, MemoryError):
                if self.parts >= graph.num_systems:
                    raise
            self.parts *= 2  # not in the handler, which holds what the failed call had
            torch.cuda.empty_cache()
            warnings.warn(
                f"out of memory with {graph.num_systems} systems of {graph.num_atoms} atoms: from now on a batch is "
                f"evaluated in {self.parts} parts, one after the other",
                stacklevel=2,
            )

    def _divided(self, graph: AtomicGraph) -> list[AtomicGraph]:
        if self.parts == 1:
            return [graph]
        systems, cuts = graph.to_list(), np.linspace(0, graph.num_systems, self.parts + 1).round().astype(int)
        return [AtomicGraph.from_list(systems[a:b]) for a, b in pairwise(cuts.tolist()) if a < b]

    def _connected(self, state: State) -> AtomicGraph:
        if self.neighbors is None:
            return state.graph
        rebuilds = self.neighbors.rebuilds
        graph, self._listed = self.neighbors.update(state.graph), state.index
        if self.neighbors.rebuilds > rebuilds and graph.device.type == "cpu":
            check_indices(graph, CLOSEST)
        return graph

    def _possible(self, state: State) -> Tensor:
        """(systems,) which of them have an answer by themselves."""
        systems = torch.arange(state.num_systems, device=state.device)
        return torch.tensor([self._has_answer(state.systems(one)) for one in systems.split(1)], device=state.device)

    def _of_possible(self, state: State, possible: Tensor, stress: bool) -> Prediction:
        """What the model says of some systems, in rows of NaN for the others."""
        if not possible.any():
            nothing = torch.full_like(state.energy, torch.nan)
            forces = torch.full_like(state.positions, torch.nan)
            return Prediction(nothing, forces[:, 0], forces, torch.full_like(state.cell, torch.nan) if stress else None)
        part = state.systems(possible.nonzero().flatten())
        return self(part, stress).spread(possible[state.batch], possible)

    def _has_answer(self, state: State) -> bool:
        try:
            if self.neighbors is None:
                self.predict(state.graph, forces=True, stress=False)
            else:
                connect_checked(state.graph, self.neighbors.cutoff)
        except ImpossibleGeometry:
            return False
        return True

    def origin(self, state: State) -> ListOrigin:
        """Of the neighbour list with which a state was evaluated, for `restore`; NaN where the next one will be new."""
        made = None if self.neighbors is None else self.neighbors.origin
        if made is None or self._listed is None or not torch.equal(self._listed, state.index):
            return ListOrigin(torch.full_like(state.positions, torch.nan), torch.full_like(state.cell, torch.nan))
        return ListOrigin(*made)

    def restore(self, state: State, origin: ListOrigin) -> None:
        """Make the neighbour list that a run had, of these systems, so that it goes on bit for bit."""
        if self.neighbors is not None:
            self.neighbors.forget()
            self._listed = state.index
            if origin.positions.isfinite().all():
                self.neighbors.update(state.graph.replace(positions=origin.positions, cell=origin.cell))
