"""Potentials whose statistics are known: what methods of simulation are tested with.

Both are Predictors: they take a graph of many systems and return a Prediction, without autograd.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from atomsml.geometry import volume
from atomsml.graph import AtomicGraph
from atomsml.potential import Prediction
from atomsml.simulate.state import total


@dataclass(frozen=True)
class LennardJones:
    """E = sum over pairs of 4 epsilon ((sigma / r)^12 - (sigma / r)^6) f(r), with a switch f.

    f goes from 1 at `onset` to 0 at `cutoff` with two continuous derivatives: 1 - 10 x^3 + 15 x^4 - 6 x^5, where
    x = (r - onset) / (cutoff - onset). Defaults are those of argon, eV and A.
    """

    epsilon: float = 0.010345
    sigma: float = 3.4
    onset: float = 6.8
    cutoff: float = 8.5

    def __call__(self, graph: AtomicGraph, forces: bool = True, stress: bool = False) -> Prediction:
        graph = graph.connected(self.cutoff)
        vectors = graph.edge_vectors()  # from receiver to sender
        receiver = graph.edge_index[1]
        r = torch.linalg.vector_norm(vectors, dim=1)
        s6 = (self.sigma / r) ** 6
        pair, slope = 4 * self.epsilon * (s6**2 - s6), 4 * self.epsilon * (-12 * s6**2 + 6 * s6) / r
        x = ((r - self.onset) / (self.cutoff - self.onset)).clamp(0, 1)  # edges of a skin lie beyond: 1
        switch = 1 - x**3 * (10 - 15 * x + 6 * x**2)
        switch_slope = -30 * x**2 * (1 - x) ** 2 / (self.cutoff - self.onset)
        energy, slope = pair * switch, slope * switch + pair * switch_slope
        pull = slope[:, None] * vectors / r[:, None]  # on the receiver; each pair is listed both ways
        atom_energies = total(energy, receiver, graph.num_atoms) / 2
        virial = total(pull[:, :, None] * vectors[:, None, :] / 2, graph.batch[receiver], graph.num_systems)
        return Prediction(
            energy=total(atom_energies, graph.batch, graph.num_systems),
            atom_energies=atom_energies,
            forces=total(pull, receiver, graph.num_atoms),
            stress=virial / volume(graph.cell)[:, None, None] if stress else None,
        )


@dataclass(frozen=True)
class HarmonicWell:
    """E = sum over atoms of k x^2 / 2 about the origin: every atom a three-dimensional oscillator; stiffness eV/A^2."""

    stiffness: float = 1.0

    def __call__(self, graph: AtomicGraph, forces: bool = True, stress: bool = False) -> Prediction:
        atom_energies = 0.5 * self.stiffness * graph.positions.square().sum(dim=1)
        return Prediction(
            energy=total(atom_energies, graph.batch, graph.num_systems),
            atom_energies=atom_energies,
            forces=-self.stiffness * graph.positions,
        )
