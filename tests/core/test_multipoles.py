"""Multipoles: sums that are written out, exact total charges, what moving and turning a molecule does."""

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from scipy.spatial.transform import Rotation

from atomsml.graph import AtomicGraph
from atomsml.multipoles import ChargeHead, multipoles, neutralized


def batch() -> AtomicGraph:
    return AtomicGraph.from_list([AtomicGraph.from_ase(molecule(name)) for name in ("H2O", "CH3CHO")])


def of_atoms(graph: AtomicGraph, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = (), (3,), (3, 3)
    charges, dipoles, quadrupoles = (
        torch.randn(graph.num_atoms, *shape, generator=generator, dtype=torch.float64) for shape in shapes
    )
    return charges, dipoles, quadrupoles + quadrupoles.mT


@pytest.mark.parametrize("total", [0.0, 1.0, -2.0])
def test_charges_sum_to_the_total_of_every_system(total):
    graph = batch()
    charges = neutralized(of_atoms(graph)[0], graph, total)
    for i, size in ((0, 3), (1, 7)):
        assert charges[graph.batch == i].sum().item() == pytest.approx(total, abs=4 * size * np.finfo(float).eps)


def test_they_are_the_written_out_sums():
    graph = batch()
    q, d, m = of_atoms(graph)
    found = multipoles(q, d, m, graph)
    for i in range(2):
        mine = graph.batch == i
        r = graph.positions[mine].numpy()
        own = zip(q[mine].numpy(), d[mine].numpy(), m[mine].numpy(), r, strict=True)
        moment = sum(a * np.outer(x, x) + np.outer(x, b) + np.outer(b, x) + c for a, b, c, x in own)
        dipole = q[mine].numpy() @ r + d[mine].numpy().sum(axis=0)
        assert found.dipole[i].numpy() == pytest.approx(dipole, abs=1e-13)
        assert found.quadrupole[i].numpy() == pytest.approx(moment - np.trace(moment) / 3 * np.eye(3), abs=1e-12)


def test_a_dipole_points_from_minus_to_plus():
    graph = AtomicGraph.from_ase(molecule("HF"))  # F above, H below, on z
    fluorine = graph.numbers == 9
    charges = torch.where(fluorine, -0.4, 0.4 * torch.ones(2, dtype=torch.float64))
    height = graph.positions[fluorine, 2] - graph.positions[~fluorine, 2]
    dipole = multipoles(charges, None, None, graph).dipole[0]
    assert dipole[2].item() == pytest.approx(-0.4 * height.item(), abs=1e-14)
    assert dipole[2] < 0


def test_moved_molecules():
    """The dipole of a neutral one stays, that of an ion follows it; so does a quadrupole."""
    graph, shift = batch(), torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    q, d, m = of_atoms(graph)
    moved = graph.replace(positions=graph.positions + shift)
    for total in (0.0, 1.0):
        charges = neutralized(q, graph, total)
        before, after = multipoles(charges, d, m, graph), multipoles(charges, d, m, moved)
        torch.testing.assert_close(after.dipole, before.dipole + total * shift, rtol=0, atol=1e-12)
        cross = before.dipole[:, :, None] * shift + shift[:, None] * before.dipole[:, None, :]
        moment = cross + total * shift[:, None] * shift
        trace = moment.diagonal(dim1=1, dim2=2).sum(1)[:, None, None]
        expected = before.quadrupole + moment - trace / 3 * torch.eye(3)
        torch.testing.assert_close(after.quadrupole, expected, rtol=0, atol=1e-12)


def test_a_periodic_system_has_charges_alone():
    graph = AtomicGraph.from_list([AtomicGraph.from_ase(a) for a in (bulk("NaCl", "rocksalt", 5.6), molecule("H2O"))])
    found = multipoles(*of_atoms(graph), graph)
    assert found.charges.isfinite().all()
    for values in (found.dipole, found.quadrupole):
        assert values[0].isnan().all()
        assert values[1].isfinite().all()


@pytest.mark.parametrize("vectors", [0, 5])
def test_a_head_turns_with_its_molecule_and_begins_at_nothing(vectors):
    graph, rotation = batch(), torch.from_numpy(Rotation.random(rng=1).as_matrix())
    torch.manual_seed(0)
    head = ChargeHead(6, vectors, 8).double()
    scalars = torch.randn(graph.num_atoms, 6, dtype=torch.float64)
    features = torch.randn(graph.num_atoms, 3, vectors, dtype=torch.float64)
    assert head(scalars, features, graph, 0.0).quadrupole.abs().max() == 0
    torch.nn.init.normal_(head.mlp.weights[-1])
    turned_graph = graph.replace(positions=graph.positions @ rotation.T)
    found, turned = head(scalars, features, graph, 0.0), head(scalars, rotation @ features, turned_graph, 0.0)
    assert found.dipole.abs().max() > 0.1
    torch.testing.assert_close(turned.charges, found.charges, rtol=0, atol=1e-12)
    torch.testing.assert_close(turned.dipole, found.dipole @ rotation.T, rtol=0, atol=1e-11)
    torch.testing.assert_close(turned.quadrupole, rotation @ found.quadrupole @ rotation.T, rtol=0, atol=1e-10)
