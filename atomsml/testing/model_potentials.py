"""Potentials whose statistics are known: what methods of simulation are tested with.

All are Predictors: they take a graph of many systems and return a Prediction, without autograd.

At the pressure P the volume V of N atoms is distributed as V^N exp(-P V / kT) in an `IdealGas`, and as
V exp(-(P V + B V0 (V / V0 - 1)^2 / 2) / kT) in a `HarmonicCrystal`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import ase
import torch
from ase.calculators.calculator import Calculator, all_changes
from torch import Tensor

from atomsml.geometry import volume
from atomsml.graph import AtomicGraph
from atomsml.neighbors.verlet import VerletList
from atomsml.potential import Prediction, Predictor
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


@dataclass(frozen=True)
class IdealGas:
    """E = 0: atoms that do not see each other."""

    def __call__(self, graph: AtomicGraph, forces: bool = True, stress: bool = False) -> Prediction:
        atom_energies = graph.positions.new_zeros(graph.num_atoms)
        return Prediction(
            energy=graph.positions.new_zeros(graph.num_systems),
            atom_energies=atom_energies,
            forces=torch.zeros_like(graph.positions),
            stress=torch.zeros_like(graph.cell) if stress else None,
        )


@dataclass(frozen=True, eq=False)
class HarmonicCrystal:
    """E = k / 2 sum of |u_i - mean u|^2 + B V0 (V / V0 - 1)^2 / 2, where u_i leads to atom i from its site.

    The sites are fixed in fractional coordinates; `sites` (atoms, 3) are those of one system, which all systems of a
    graph have. Atoms must not be wrapped. k is in eV/A^2, B in eV/A^3, V0 in A^3.
    """

    sites: Tensor
    stiffness: float
    bulk_modulus: float
    size: float

    def __call__(self, graph: AtomicGraph, forces: bool = True, stress: bool = False) -> Prediction:
        count = graph.num_systems
        u = graph.positions.view(count, -1, 3) - self.sites @ graph.cell  # (systems, atoms, 3)
        u = u - u.mean(dim=1, keepdim=True)
        size = volume(graph.cell)
        growth = size / self.size - 1
        elastic = 0.5 * self.bulk_modulus * self.size * growth.square()
        atom_energies = 0.5 * self.stiffness * u.square().sum(dim=2) + elastic[:, None] / u.shape[1]
        one = torch.eye(3, dtype=u.dtype, device=u.device)
        inner = self.stiffness * u.mT @ u / size[:, None, None] + self.bulk_modulus * growth[:, None, None] * one
        return Prediction(
            energy=atom_energies.sum(dim=1),
            atom_energies=atom_energies.flatten(),
            forces=-self.stiffness * u.flatten(0, 1),
            stress=inner if stress else None,
        )


class AskingCalculator(Calculator):
    """ASE's door to a Predictor such as those above."""

    implemented_properties = ["energy", "free_energy", "forces", "stress"]  # noqa: RUF012

    def __init__(self, predict: Predictor, cutoff: float | None = None) -> None:
        """With a cutoff, A, graphs come with a neighbour list, which is kept as long as it holds."""
        super().__init__()
        self.predict, self.neighbors = predict, None if cutoff is None else VerletList(cutoff, skin=0.5)

    def calculate(
        self,
        atoms: ase.Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        assert self.atoms is not None
        graph = AtomicGraph.from_ase(self.atoms)
        found = self.predict(
            graph if self.neighbors is None else self.neighbors.update(graph), forces=True, stress=True
        )
        assert found.forces is not None
        energy = found.energy.item()
        self.results = {"energy": energy, "free_energy": energy, "forces": found.forces.numpy()}
        if found.stress is not None:
            self.results["stress"] = found.stress[0].numpy().ravel()[[0, 4, 8, 5, 2, 1]]
