"""EGNN as published: equal to its authors' networks, and what every potential must obey but for the cutoff."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from atomsml.nn.egnn_paper import PaperEGNNLayers
from atomsml.nn.linear import UnitLinear
from atomsml.ops.convolution import Edges
from atomsml.potentials.egnn import EGNN, EGNNConfig
from atomsml.potentials.egnn.paper import PaperNetwork
from atomsml.testing import PotentialTests, seeded

ELEMENTS, CHANNELS, LAYERS, ATOMS = 3, 8, 3, 7  # those of make_egnn_golden.py
TINY = EGNNConfig(elements=(1, 8), channels=8, num_layers=3, paper=True, attention=True)
# their name of a perceptron -> its name here
PERCEPTRONS = {
    "edge_mlp": "messages.phi_e",
    "node_mlp": "messages.phi_h",
    "att_mlp.0": "messages.phi_inf",
    "coord_mlp": "phi_x",
    "coord_mlp_vel": "phi_v",
}


class TestPaper(PotentialTests):
    """Smooth where no atom crosses the cutoff; one that does changes the energy as much as anywhere further inside."""

    energy_jump, force_at_cutoff = 1.3, 1.05  # measured: 1.26 and 1.01

    @pytest.fixture
    def potential(self) -> EGNN:
        return seeded(EGNN, TINY)


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    with np.load(Path(__file__).parents[2] / "data" / "egnn" / "golden.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


def geometry(golden: dict[str, Tensor]) -> tuple[Tensor, Tensor, Edges]:
    """One-hot elements, vectors of the edges, edges."""
    receivers, senders = golden["receivers"], golden["senders"]
    vectors = golden["positions"][senders] - golden["positions"][receivers]
    onehot = torch.eye(ELEMENTS, dtype=torch.float64)[torch.arange(ATOMS) % ELEMENTS]
    return onehot, vectors, Edges.from_index(torch.stack([senders, receivers]), ATOMS)


def weights_of(golden: dict[str, Tensor], network: str) -> dict[str, Tensor]:
    """Of our layers; the linear maps outside of the layers have names of their own."""
    found = {}
    for name, value in golden.items():
        if name.startswith(f"{network}/weight/gcl_"):
            _, layer, rest = name.removeprefix(f"{network}/weight/").replace("gcl_", "gcl.").split(".", 2)
            theirs = next(each for each in PERCEPTRONS if rest.startswith(f"{each}."))
            found[f"layers.{layer}.{PERCEPTRONS[theirs]}{rest.removeprefix(theirs)}"] = value
    return found


def layers_of(golden: dict[str, Tensor], network: str, **options: bool | int) -> tuple[PaperEGNNLayers, nn.Linear]:
    """Our layers and embedding with the weights of one of their networks."""
    layers = PaperEGNNLayers(CHANNELS, LAYERS, **options).double()
    layers.load_state_dict(weights_of(golden, network))
    embedding = nn.Linear(ELEMENTS, CHANNELS).double()
    embedding.load_state_dict({k: golden[f"{network}/weight/embedding.{k}"] for k in ("weight", "bias")})
    return layers, embedding


def assert_equal(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found.detach(), expected, rtol=0, atol=1e-12 * float(expected.abs().max()))


def test_layers_that_move_atoms_along_velocities_are_those_of_the_authors(golden: dict[str, Tensor]) -> None:
    layers, embedding = layers_of(golden, "nbody", num_attributes=2, velocities=True)
    onehot, vectors, edges = geometry(golden)
    _, displacements = layers(embedding(onehot), vectors, golden["of_edges"], edges, golden["velocities"])
    assert_equal(golden["positions"] + displacements, golden["nbody/positions"])


def test_layers_that_leave_atoms_where_they_are_are_those_of_the_authors(golden: dict[str, Tensor]) -> None:
    layers, embedding = layers_of(golden, "qm9", attention=True, moves=False)
    onehot, vectors, edges = geometry(golden)
    features, displacements = layers(embedding(onehot), vectors, vectors.new_zeros(len(vectors), 0), edges)
    assert_equal(features, golden["qm9/features"])
    assert not displacements.any()


def test_the_network_of_the_potential_is_that_of_the_authors(golden: dict[str, Tensor]) -> None:
    """Their weights times sqrt(fan in) are ours, of `UnitLinear`."""
    theirs = {f"layers.{name}": value for name, value in weights_of(golden, "clean").items()}
    for ours, name in (("embedding", "embedding_in"), ("readout", "embedding_out")):
        theirs |= {f"{ours}.{k}": golden[f"clean/weight/{name}.{k}"] for k in ("weight", "bias")}
    network = PaperNetwork(EGNNConfig((1, 6, 8), channels=CHANNELS, num_layers=LAYERS, paper=True, attention=True))
    network = network.double()
    fan_in = {name: each.in_features for name, each in network.named_modules() if isinstance(each, UnitLinear)}
    scaled = {name: theirs[name] * fan_in[name.rpartition(".")[0]] ** 0.5 for name in network.state_dict()}
    network.load_state_dict(scaled)
    onehot, vectors, edges = geometry(golden)
    none = vectors.new_zeros(len(vectors), 0)
    features, _ = network.layers(network.embedding(onehot), vectors, none, edges)
    assert_equal(network.readout(features), golden["clean/outputs"])
    # the network leaves out the last move, which no energy depends on
    layers = PaperEGNNLayers(CHANNELS, LAYERS, attention=True).double()
    layers.load_state_dict(weights_of(golden, "clean"))
    embedding = nn.Linear(ELEMENTS, CHANNELS).double()
    embedding.load_state_dict({k: theirs[f"embedding.{k}"] for k in ("weight", "bias")})
    _, displacements = layers(embedding(onehot), vectors, none, edges)
    assert_equal(golden["positions"] + displacements, golden["clean/positions"])


@pytest.mark.parametrize("linear", [nn.Linear, UnitLinear])
def test_moves_start_small(linear: type[nn.Linear]) -> None:
    """As Xavier's uniform distribution with a gain of 0.001: bounded by 0.001 sqrt(6 / (fan in + 1))."""
    torch.manual_seed(0)
    layers = PaperEGNNLayers(400, 1, linear=linear)
    last = layers.layers[0].phi_x[-1]
    effective = last(torch.eye(400)).abs()
    bound = 1e-3 * (6 / 401) ** 0.5
    assert 0.98 * bound < effective.max() <= bound * (1 + 1e-6)
    assert last.bias is None


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"paper": True, "coordinate_range": 2.0}, "coordinate_range"),
        ({"paper": True, "num_bessel": 4}, "num_bessel"),
        ({"attention": True}, "attention"),
        ({"moves": False}, "moves"),
    ],
)
def test_options_of_the_other_network_are_refused(options: dict[str, float], name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} is"):
        EGNNConfig((1,), **options)


def test_the_size_paper_is_a_config() -> None:
    config = EGNNConfig((1, 8), **EGNN.sizes["paper"])
    assert dataclasses.replace(config, num_layers=1).paper
