"""Facet obeys what every potential must, and is what its docstring says."""

import copy
import dataclasses
import functools
import json

import ase.build
import numpy as np
import pytest
import torch
from e3nn import o3
from safetensors.torch import load_file, save_file
from scipy.interpolate import BSpline

from atomsml import AtomsMLCalculator, modelfile
from atomsml.graph import AtomicGraph
from atomsml.o3 import spherical_harmonics
from atomsml.ops.convolution import Edges
from atomsml.potential import evaluate
from atomsml.potentials.facet import Facet, FacetConfig
from atomsml.radial.bases import polynomial_envelope
from atomsml.radial.spline import BOND, spline_basis
from atomsml.testing import PotentialTests, assert_ase_contract, seeded

TINY = FacetConfig(
    elements=(1, 8),
    channels=(8, 4, 2),
    lmax=2,
    grid_channels=6,
    num_splines=7,
    readout_channels=4,
    avg_num_neighbors=8.0,
)


@functools.cache
def make(config: FacetConfig) -> Facet:
    return seeded(Facet, config)


class TestFacet(PotentialTests):
    @pytest.fixture
    def potential(self):
        return make(TINY)


class TestFacetOfHigherOrder(PotentialTests):
    """Products of three signals, and features of a lower degree than the signals."""

    @pytest.fixture
    def potential(self):
        return make(dataclasses.replace(TINY, channels=(4, 2), order=3, num_layers=3, scale=0.8))


def test_ase_contract():
    assert_ase_contract(AtomsMLCalculator(make(TINY), device="cpu"), ("O", "H"))


@pytest.fixture
def peroxide() -> AtomicGraph:
    return AtomicGraph.from_ase(ase.build.molecule("H2O2")).with_neighbors(TINY.cutoff)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_equivariance(dtype, tolerance, peroxide):
    potential = copy.deepcopy(make(TINY)).cast(dtype)
    graph = peroxide.to(dtype=dtype)
    rotation = -o3.angles_to_matrix(*torch.tensor([0.3, 1.1, -2.0], dtype=torch.float64)).to(dtype)
    before = evaluate(potential, graph)
    after = evaluate(potential, graph.replace(positions=graph.positions @ rotation.T))
    assert (after.energy - before.energy).abs() < tolerance * before.energy.abs()
    assert (after.forces - before.forces @ rotation.T).abs().max() < tolerance * before.forces.abs().max()


def test_layer_is_its_equation(peroxide):
    """Edge by edge and path by path, with e3nn's harmonics and couplings and scipy's splines."""
    layer = make(TINY).layers[1]  # all of its features have all degrees
    generator = torch.Generator().manual_seed(1)
    h = [torch.randn(4, 2 * l + 1, c, generator=generator, dtype=torch.float64) for l, c in enumerate(TINY.channels)]
    vectors, (sender, receiver) = peroxide.edge_vectors(), peroxide.edge_index
    lengths = vectors.norm(dim=1)
    spacing = TINY.cutoff / (TINY.num_splines - 3)
    knots = np.arange(-3, TINY.num_splines + 1) * spacing
    splines = torch.from_numpy(BSpline(knots, layer.splines.detach().numpy(), 3)(lengths.numpy()))
    amplitude = (315 / 151) ** 0.5 * BOND * TINY.cutoff / lengths * polynomial_envelope(lengths, TINY.cutoff, 5)
    weights = splines * amplitude[:, None] / TINY.avg_num_neighbors**0.7
    both = [torch.zeros(4, 2 * l + 1, c, dtype=torch.float64) for l, c in enumerate(layer.table.channels_out)]
    for l1, l2, l3 in layer.table.paths:
        y = o3.spherical_harmonics(l2, vectors, normalize=True, normalization="component")
        coupling = o3.wigner_3j(l1, l2, l3, dtype=torch.float64) * (2 * l3 + 1) ** 0.5
        columns = layer.table.weight_columns((l1, l2, l3))
        messages = torch.einsum("eac,eb,abo,ec->eoc", h[l1][sender], y, coupling, weights[:, columns])
        for atom in range(4):
            both[l3][atom][:, layer.table.out_columns((l1, l2, l3))] = messages[receiver == atom].sum(dim=0)
    both = [torch.cat(pair, dim=2) for pair in zip(both, h, strict=True)]
    mapped = [x @ w / len(w) ** 0.5 for x, w in zip(both, layer.linear.weights, strict=True)]
    expected = h[0] + layer.grid(torch.cat(mapped, dim=1))[:, :1]  # of the last layer only scalars go on
    edges = Edges.from_index(peroxide.edge_index, 4)
    basis = spline_basis(lengths, TINY.cutoff, TINY.num_splines, TINY.envelope_power)
    (found,) = layer(h, spherical_harmonics(TINY.lmax, vectors), basis, edges)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12 * expected.abs().max().item())


@pytest.mark.parametrize(
    "absurd",
    [
        {"lmax": 60},
        {"order": 60},
        {"num_layers": 10**6},
        {"channels": [10**9]},
        {"channels": [4, 8]},
        {"channels": []},
        {"channels": [4] * 4},
        {"grid_channels": 10**9},
        {"num_splines": 10**9},
        {"num_splines": 3},
    ],
    ids=str,
)
def test_a_hostile_file_is_refused_at_once(absurd, tmp_path):
    path = tmp_path / "hostile.safetensors"
    modelfile.save(make(TINY), path, {})
    description = modelfile.read_metadata(path)
    description["config"] |= absurd
    save_file(load_file(path), path, metadata={"atomsml": json.dumps(description)})
    with pytest.raises(ValueError, match=r"hostile\.safetensors.*(must|far larger than its file)"):
        modelfile.load(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grid": (18, 17)}, "grid is not read with pointwise product; leave it out"),
        ({"pointwise": "mlp", "order": 3}, "order is not read with pointwise mlp; leave it out"),
        ({"pointwise": "mlp", "channels": (8, 5, 2)}, r"channels\[1\] must be a multiple of num_heads 2"),
        ({"pointwise": "mlp", "channels": (8,)}, "channels must be given for l = 0 and 1 at least"),
        ({"pointwise": "mlp", "grid": (4, 9)}, r"grid must have 2 l \+ 1 points each way for l < 3, got \(4, 9\)"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        FacetConfig(elements=(1, 8), **options)
