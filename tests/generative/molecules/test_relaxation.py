"""Strain in kcal/mol and kept bonds, on springs whose energies are known."""

import ase
import pytest
import torch

from atomsml.generative.molecules.relaxation import relax_molecules
from atomsml.graph import AtomicGraph
from atomsml.potential import Prediction
from atomsml.simulate.relax import RelaxSettings

STIFFNESS = 30.0  # eV/A^2
EV = 23.0605  # kcal/mol


def spring(length: float, graph: AtomicGraph) -> Prediction:
    """Diatomic molecules, E = k/2 (r - length)^2."""
    first, second = graph.positions[::2], graph.positions[1::2]
    vector = second - first
    distance = vector.norm(dim=1)
    energy = 0.5 * STIFFNESS * (distance - length) ** 2
    pull = STIFFNESS * (distance - length)[:, None] * vector / distance[:, None]
    return Prediction(energy, torch.zeros(graph.num_atoms), torch.stack([pull, -pull], dim=1).reshape(-1, 3))


def test_strain_is_the_energy_of_the_spring() -> None:
    molecules = [ase.Atoms("CO", [(0, 0, 0), (0, 0, r)]) for r in (1.1, 1.2, 1.4)]
    found = {
        one.index: one for one in relax_molecules(molecules, lambda graph, **_: spring(1.1, graph), RelaxSettings(1e-4))
    }
    for index, stretched in enumerate((0.0, 0.1, 0.3)):
        assert found[index].strain == pytest.approx(0.5 * STIFFNESS * stretched**2 * EV, rel=1e-4, abs=1e-6)
        assert found[index].atoms.get_distance(0, 1) == pytest.approx(1.1, abs=1e-5)
        assert found[index].converged
        assert found[index].bonds_kept


def test_a_molecule_that_falls_apart() -> None:
    (found,) = relax_molecules([ase.Atoms("CO", [(0, 0, 0), (0, 0, 1.1)])], lambda graph, **_: spring(3.0, graph))
    assert found.converged
    assert not found.bonds_kept
