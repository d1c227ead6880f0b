"""Model: the energies, forces and stresses of a State, by a predictor, with a neighbour list that serves many steps."""

from __future__ import annotations

import torch

from atomsml.neighbors.verlet import VerletList
from atomsml.potential import Predictor
from atomsml.simulate.state import State

SKIN = 0.5  # A: how much farther than the cutoff a neighbour list reaches, to serve several steps


class Model:
    """Asks a predictor about states.

    Args:
        predict: a Predictor, as `Potential.predictor()` and `AtomsMLCalculator.predict_batch` are, or any function of
            a graph, `forces` and `stress` that returns a Prediction.
        cutoff: A; where it is given, the graphs come with a neighbour list of this cutoff and a skin, which is kept
            as long as it holds. Without it they come without.
    """

    def __init__(self, predict: Predictor, cutoff: float | None = None, skin: float = SKIN) -> None:
        self.predict = predict
        self.neighbors = None if cutoff is None else VerletList(cutoff, skin)

    def __call__(self, state: State, stress: bool = False) -> None:
        """Fill energy and forces of the state, and its stress where it is asked for; not finite where there is none."""
        graph = state.graph if self.neighbors is None else self.neighbors.update(state.graph)
        found = self.predict(graph, forces=True, stress=stress)
        assert found.forces is not None
        state.energy, state.forces = found.energy.to(state.positions), found.forces.to(state.positions)
        state.stress = (
            torch.full_like(state.cell, torch.nan) if found.stress is None else found.stress.to(state.positions)
        )
