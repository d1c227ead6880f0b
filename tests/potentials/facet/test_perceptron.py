"""The published Facet answers, module by module, what the authors' code does with the same weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor, nn

from atomsml.graph import AtomicGraph
from atomsml.nn.linear import GradedLinear, IrrepLinear
from atomsml.o3 import spherical_harmonics
from atomsml.pair_geometry import PairGeometry
from atomsml.potentials.facet import Facet, FacetConfig
from atomsml.potentials.facet.perceptron import PerceptronLayer, SphereConnection, glorot
from atomsml.testing import PotentialTests, seeded
from atomsml.testing.expressivity import CUTOFF, environments

GOLDEN = Path(__file__).parents[2] / "data" / "facet" / "golden.npz"  # written by make_facet_golden.py
CONFIG = FacetConfig(
    elements=(1, 6, 8),
    cutoff=3.0,
    channels=(8, 4, 2),
    num_layers=2,
    readout_channels=5,
    avg_num_neighbors=7.5,
    pointwise="mlp",
    embedding_channels=6,
    grid=(18, 17),
)
# their harmonics are of vectors after half a turn: the swap of x and z, negated
TURN = -torch.tensor([[0, 0, 1], [0, 1, 0], [1, 0, 0]], dtype=torch.float64)


def loud(config: FacetConfig) -> Facet:
    """Random weights with which features are of size 1; those of training start so small that SiLU is a parabola."""
    facet = seeded(Facet, config)
    with torch.no_grad():
        facet.embedding *= config.embedding_channels**0.5
        for layer in facet.layers:
            layer.radial /= glorot(layer.radial)
            for factor in layer.norm.factors:
                factor.fill_(1.0)
    return facet


class TestPublishedFacet(PotentialTests):
    """On the default grid. One layer sees inversion as it sees rotation; products of odd degree need a second."""

    rotation_error = inversion_error = 1e-6  # measured: 4e-7

    @pytest.fixture
    def potential(self):
        return loud(FacetConfig((1, 8), channels=(8, 4, 2), pointwise="mlp", num_layers=1, avg_num_neighbors=8.0))


class TestPublishedFacetOfTwoLayers(PotentialTests):
    """On the authors' grid."""

    rotation_error, inversion_error = 1e-3, 0.3  # measured: 8e-4, 0.2

    @pytest.fixture
    def potential(self):
        return loud(
            FacetConfig((1, 8), channels=(8, 4, 2), pointwise="mlp", num_layers=2, grid=(18, 17), avg_num_neighbors=8.0)
        )


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    with np.load(GOLDEN) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


@pytest.fixture(scope="module")
def potential(golden: dict[str, Tensor]) -> Facet:
    facet = seeded(Facet, CONFIG)
    facet.references.zero_()
    with torch.no_grad():
        facet.embedding.copy_(golden["weight/node_embedding/embed/embedding"])
        facet.radial_basis.frequencies.copy_(golden["weight/radial_embedding/basis/freq"])
        for i, layer in enumerate(facet.layers):
            prefix = f"weight/layer_{i}/"
            fill_layer(layer, {k.removeprefix(prefix): x for k, x in golden.items() if k.startswith(prefix)})
        facet.readout.weights[0].copy_(golden["weight/head/Dense_0/kernel"] * 5**0.5)
    return facet


def fill_layer(layer: PerceptronLayer, theirs: dict[str, Tensor]) -> None:
    """The authors' weights, where ours have another scale or order."""
    kernel = theirs["interaction/SimpleInteraction_0/SevenNetConv_0/LazyInMLP_0/Dense_0/kernel"]
    table, start = layer.table, 0
    for path in sorted(table.paths):  # theirs are ordered by l1, then l2, then l3; ours by channels, then l3
        columns = table.weight_columns(path)
        layer.radial[:, columns] = kernel[:, start : start + len(columns)] * (sum(kernel.shape) / 2) ** 0.5
        start += len(columns)
    for l, (ours, x) in enumerate(zip(layer.message.weights, matrices(theirs, "interaction/Simp"), strict=True)):
        order = [column for path in table.paths if path[2] == l for column in table.out_columns(path)]
        ours[0, order] = x
    fill_linear(layer.own, matrices(theirs, "interaction/resid_adapter"))
    connection = layer.self_connection
    if isinstance(connection, SphereConnection):
        fill_linear(connection.up, matrices(theirs, "self_connection/proj_up"))
        fill_linear(connection.down, matrices(theirs, "self_connection/proj_down"))
    perceptron = connection.points if isinstance(connection, SphereConnection) else connection
    dense = [x for name, x in theirs.items() if name.startswith("self_connection") and "Dense" in name]
    for ours, x in zip(perceptron.weights, dense, strict=True):
        ours.copy_(x * (sum(x.shape) / 2) ** 0.5)
    factors = theirs["resid_ln/ln_scale"].split([len(f) for f in layer.norm.factors])
    for ours, x in zip(layer.norm.factors, factors, strict=True):
        ours.copy_(x)


def matrices(theirs: dict[str, Tensor], module: str) -> list[Tensor]:
    return [x for name, x in theirs.items() if name.startswith(module) and "/w[" in name]


def fill_linear(linear: GradedLinear | IrrepLinear, theirs: list[Tensor]) -> None:
    for ours, x in zip(linear.weights, theirs, strict=True):
        ours.copy_(x.reshape(ours.shape))


@pytest.fixture(scope="module")
def graph(golden: dict[str, Tensor]) -> AtomicGraph:
    n = len(golden["species"])
    return AtomicGraph(
        positions=golden["positions"] @ TURN,
        numbers=torch.tensor(CONFIG.elements)[golden["species"]],
        cell=torch.zeros(1, 3, 3, dtype=torch.float64),
        pbc=torch.zeros(1, 3, dtype=torch.bool),
        batch=torch.zeros(n, dtype=torch.int64),
    ).with_neighbors(CONFIG.cutoff)


def close(found: list[Tensor], expected: Tensor) -> None:
    """Blocks of each l, (atoms, 2l + 1, channels), and rows of the irreps of e3nn, channel by channel."""
    rows = torch.cat([x.mT.flatten(1) for x in found], dim=1)
    torch.testing.assert_close(rows, expected, rtol=0, atol=1e-9 * expected.abs().max().item())


def test_every_module_of_every_layer(golden: dict[str, Tensor], potential: Facet, graph: AtomicGraph) -> None:
    pairs = PairGeometry.from_graph(graph, torch.float64)
    harmonics, basis = spherical_harmonics(CONFIG.lmax, pairs.vectors), potential.radial_basis(pairs.lengths)
    blocks = [potential.embedding[golden["species"]][:, None]]
    for i, layer in enumerate(potential.layers):
        with heard(layer.self_connection) as connections, heard(layer.norm) as norms:
            blocks = layer(blocks, harmonics, basis, pairs.edges)
        ((interaction,), connected), ((_,), normed) = connections[0], norms[0]
        alone = i == CONFIG.num_layers  # the last layer has scalars only
        close([interaction] if alone else interaction, golden[f"output/layer_{i}/interaction/__call__"])
        close([connected] if alone else connected, golden[f"output/layer_{i}/self_connection/__call__"])
        close(normed, golden[f"output/layer_{i}/resid_ln/__call__"])
        close(blocks, golden[f"output/layer_{i}/__call__"])


def test_radial_basis(golden: dict[str, Tensor], potential: Facet) -> None:
    """At distances below the envelope's beginning, in both of its halves, and beyond the cutoff."""
    positions, n = golden["positions"], len(golden["species"])
    others = torch.tensor([[j for j in range(n) if j != i] for i in range(n)])
    lengths = (positions[others] - positions[:, None]).norm(dim=2)
    found = potential.radial_basis(lengths.flatten()).unflatten(0, lengths.shape)
    torch.testing.assert_close(found, golden["output/radial_embedding/__call__"], rtol=0, atol=1e-12)
    for low, high in ((0, 2.4), (2.4, 2.7), (2.7, 3.0), (3.0, 9.0)):
        assert ((lengths > low) & (lengths < high)).any()


def test_energies(golden: dict[str, Tensor], potential: Facet, graph: AtomicGraph) -> None:
    """The network's; `atom_energies` takes the isolated atoms, which are rows after these, off."""
    with heard(potential.readout) as calls:
        potential(graph)
    found, expected = calls[0][1][: graph.num_atoms, 0], golden["atom_energies"]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9 * expected.abs().max().item())


def test_dropout_is_for_training_and_leaves_isolated_atoms_alone(potential: Facet, graph: AtomicGraph) -> None:
    """The mean over what is left out is the energy without, as the readout is linear."""
    with_dropout = seeded(Facet, replace(CONFIG, readout_dropout=0.2))
    with_dropout.load_state_dict(potential.state_dict())
    expected = potential(graph)
    torch.testing.assert_close(with_dropout.eval()(graph), expected)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        energies = torch.stack([with_dropout.train()(graph) for _ in range(40)])
    assert (energies.std(dim=0) > 0.01).all()
    assert ((energies.mean(dim=0) - expected).abs() < 5 * energies.std(dim=0) / 40**0.5).all()
    alone = graph.replace(positions=graph.positions * 100).with_neighbors(CONFIG.cutoff)
    assert not with_dropout(alone).any()


@contextmanager
def heard(module: nn.Module) -> Iterator[list[tuple[Any, Any]]]:
    """Inputs and output of each call."""
    calls: list[tuple[Any, Any]] = []
    handle = module.register_forward_hook(lambda _, inputs, output: calls.append((inputs, output)))
    yield calls
    handle.remove()


@pytest.mark.parametrize("bodies", ["2 bodies", "3 bodies", "4 bodies"])
def test_features_of_one_layer_see_many_bodies(bodies: str) -> None:
    """Environments that products of one, two or three messages cannot tell apart."""
    facet = loud(FacetConfig((6,), CUTOFF, channels=(8, 4, 2), pointwise="mlp", grid=(48, 47)))
    rotation = torch.from_numpy(Rotation.from_euler("zyz", (0.3, 1.1, -2.0)).as_matrix())
    one, other = (features_of_centre(facet, graph) for graph in environments()[bodies])
    turned = environments()[bodies][0]
    turned = turned.replace(positions=turned.positions @ rotation)
    assert (one - other).abs().max() > 1e4 * (one - features_of_centre(facet, turned)).abs().max()


def features_of_centre(facet: Facet, graph: AtomicGraph) -> Tensor:
    """Scalars of the first atom after the first layer."""
    pairs = PairGeometry.from_graph(graph, torch.float64)
    harmonics, basis = spherical_harmonics(2, pairs.vectors), facet.radial_basis(pairs.lengths)
    scalars, *_ = facet.layers[0]([facet.embedding[graph.numbers * 0][:, None]], harmonics, basis, pairs.edges)
    return scalars[0, 0]
