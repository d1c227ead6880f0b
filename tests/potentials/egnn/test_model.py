"""EGNN obeys what every potential must; the equations of its layers are tested in tests/core/nn/test_egnn.py."""

import copy

import pytest
import torch
from ase.build import molecule
from scipy.spatial.transform import Rotation

from atomsml import AtomsMLCalculator
from atomsml.graph import AtomicGraph
from atomsml.potential import evaluate
from atomsml.potentials.egnn import EGNN, EGNNConfig
from atomsml.testing import PotentialTests, assert_ase_contract, seeded

TINY = EGNNConfig(elements=(1, 8), channels=8, num_layers=3, num_bessel=4, readout_channels=4, avg_num_neighbors=8.0)


@pytest.fixture
def potential() -> EGNN:
    return seeded(EGNN, TINY)


class TestEGNN(PotentialTests):
    pass


def test_ase_contract(potential: EGNN) -> None:
    assert_ase_contract(AtomsMLCalculator(potential, device="cpu"), ("O", "H"))


@pytest.fixture
def peroxide() -> AtomicGraph:
    return AtomicGraph.from_ase(molecule("H2O2"))


@pytest.mark.parametrize(("dtype", "allowed"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_equivariance_error(potential: EGNN, peroxide: AtomicGraph, dtype: torch.dtype, allowed: float) -> None:
    potential.cast(dtype)
    graph = peroxide.to(dtype=dtype)
    rotation = torch.tensor(Rotation.random(random_state=0).as_matrix(), dtype=dtype)
    before, after = (evaluate(potential, g) for g in (graph, graph.replace(positions=graph.positions @ rotation)))
    assert (after.energy - before.energy).abs() < allowed * before.energy.abs()
    assert (after.forces - before.forces @ rotation).abs().max() < allowed * before.forces.abs().max()


def test_the_moves_matter(potential: EGNN, peroxide: AtomicGraph) -> None:
    """Without its moves of atoms the energy is another."""
    still = copy.deepcopy(potential)
    for layer in still.layers.layers:
        layer.move = None
    moving, fixed = (evaluate(p, peroxide).energy for p in (potential, still))
    assert (moving - fixed).abs() > 1e-5
