"""NequIP obeys what every potential must, and is what its paper says."""

import copy
import dataclasses
import functools
import json
import re
from pathlib import Path

import ase
import ase.build
import numpy as np
import pytest
import torch
from e3nn import nn as e3nn_nn
from e3nn import o3
from safetensors.torch import load_file, save_file

from atomsml import AtomsMLCalculator, modelfile
from atomsml.graph import AtomicGraph
from atomsml.ops.activation import SILU_GAIN
from atomsml.potential import evaluate
from atomsml.potentials.nequip.model import NEQUIP, NequIP, NequIPConfig, gate, xplor_envelope
from atomsml.testing import PotentialTests, assert_ase_contract, seeded

TINY = NequIPConfig(
    elements=(1, 8),
    channels=(4, 3, 2),
    num_layers=2,
    num_bessel=4,
    radial_mlp=(8,),
    readout_channels=4,
    avg_num_neighbors=8.0,
    scale=0.8,
    shift=0.1,
)


@functools.cache
def make(config: NequIPConfig) -> NequIP:
    return seeded(NequIP, config)


class TestNequIP(PotentialTests):
    @pytest.fixture
    def potential(self):
        return make(dataclasses.replace(TINY, shift=0.0))


class TestLinearNequIP(PotentialTests):
    """As trimmed: splines, in which radial functions are linear; one self-connection for all elements; vectors only."""

    @pytest.fixture
    def potential(self):
        return make(
            dataclasses.replace(
                TINY, channels=(3, 3), self_connection="linear", radial_mlp=(), num_splines=8, num_layers=3, shift=0.0
            )
        )


class TestNequIPOfNequip(PotentialTests):
    """As the program nequip builds it, with both parities, up to pseudoscalars of the third layer."""

    @pytest.fixture
    def potential(self):
        return make(
            dataclasses.replace(
                TINY,
                **NEQUIP,
                parity=True,
                embedding_channels=3,
                element_scales=True,
                num_layers=4,
                relative_to_isolated=False,
                shift=0.0,
            )
        )


class TestNequIPOfSeveralLevels(PotentialTests):
    """Constants added to scalars, as in SevenNet-MF-0; harmonics that grow, as in SevenNet-0 of May 2024."""

    @pytest.fixture
    def potential(self):
        potential = make(dataclasses.replace(TINY, channels=(3, 3), harmonics="solid", scalar_biases=True, shift=0.0))
        biases = [weight for name, weight in potential.named_parameters() if name.endswith(".bias")]
        assert len(biases) == 2 * TINY.num_layers + 1
        with torch.no_grad():
            for k, bias in enumerate(biases):
                bias.copy_(torch.linspace(-0.4, 0.5, len(bias)) + 0.1 * k)
        return potential


def water() -> ase.Atoms:
    atoms = ase.build.molecule("CH3CH2OH")
    atoms = atoms[[atom.index for atom in atoms if atom.symbol != "C"]]
    atoms.rattle(0.1, seed=1)
    return atoms


def test_ase_contract():
    assert_ase_contract(AtomsMLCalculator(make(dataclasses.replace(TINY, shift=0.0)), device="cpu"), ("O", "H"))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_equivariance(dtype, tolerance):
    potential = copy.deepcopy(make(dataclasses.replace(TINY, inversion=False))).cast(dtype)
    graph = AtomicGraph.from_ase(water()).to(dtype=dtype)
    rotation = o3.angles_to_matrix(*torch.tensor([0.3, 1.1, -2.0], dtype=torch.float64)).to(dtype)
    before = evaluate(potential, graph)
    after = evaluate(potential, graph.replace(positions=graph.positions @ rotation.T))
    assert (after.energy - before.energy).abs() < tolerance * before.energy.abs()
    assert (after.forces - before.forces @ rotation.T).abs().max() < tolerance * before.forces.abs().max()


def test_odd_paths_see_inversion():
    """Without parity a chiral structure and its mirror image differ; with one or both parities they cannot."""
    graph = AtomicGraph.from_ase(water())
    mirrored = graph.replace(positions=-graph.positions)
    for options in ({}, {"inversion": False}, {"parity": True, "num_layers": 4}):
        potential = make(dataclasses.replace(TINY, **{"num_layers": 3, **options}))
        difference = (evaluate(potential, graph).energy - evaluate(potential, mirrored).energy).abs().item()
        assert (difference < 1e-10) is potential.config.inversion


def test_energies_may_be_relative_to_nothing():
    """An isolated atom then keeps what the self-connections give it."""
    relative, absolute = (make(dataclasses.replace(TINY, relative_to_isolated=which)) for which in (True, False))
    graph = AtomicGraph.from_ase(water())
    single = [evaluate(absolute, AtomicGraph.from_ase(ase.Atoms([z]))).energy for z in absolute.elements]
    offset = (torch.cat(single) - absolute.references - TINY.shift)[absolute.species(graph.numbers)]
    assert offset.abs().min() > 1e-3
    torch.testing.assert_close(
        evaluate(absolute, graph).atom_energies - offset, evaluate(relative, graph).atom_energies, rtol=0, atol=1e-9
    )


def test_gate_is_that_of_e3nn():
    generator = torch.Generator().manual_seed(0)
    channels = (4, 3, 2)
    blocks = [torch.randn(5, 2 * l + 1, c, generator=generator, dtype=torch.float64) for l, c in enumerate((9, 3, 2))]
    silu = torch.nn.functional.silu
    oracle = e3nn_nn.Gate("4x0e", [silu], "5x0e", [silu], "3x1o + 2x2e").double()
    expected = oracle(torch.cat([x.transpose(1, 2).flatten(1) for x in blocks], dim=1))
    found = torch.cat([x.transpose(1, 2).flatten(1) for x in gate(blocks, channels)], dim=1)
    # e3nn estimates the gain of an activation, and holds the coefficients of the product in float32
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    assert abs(oracle.act_scalars.acts[0].cst - SILU_GAIN) < 1e-9


def test_xplor_envelope():
    """Value and slope are continuous at both ends, and it falls in between."""
    r = torch.linspace(3.0, 6.0, 3001, dtype=torch.float64, requires_grad=True)
    value = xplor_envelope(r, 4.0, 5.0)
    (slope,) = torch.autograd.grad(value.sum(), r)
    assert value[r < 4.0].eq(1).all()
    assert value[r >= 5.0].eq(0).all()
    assert slope.max() <= 0
    # where the second derivative jumps, between two points 1e-3 apart, a slope changes by at most 1e-3 x max |f''|
    assert slope.diff().abs().max() < 1e-3 * 10
    middle = np.sqrt((16 + 25) / 2)  # where the switch of r^2 is one half, being odd about the middle of r^2
    assert abs(xplor_envelope(torch.tensor([middle]), 4.0, 5.0).item() - 0.5) < 1e-6


@pytest.mark.parametrize(
    "absurd",
    [
        {"lmax": 60},
        {"num_layers": 10**6},
        {"channels": [10**9]},
        {"channels": [4, 8]},
        {"channels": []},
        {"channels": [4] * 5},
        {"num_bessel": 10**9},
        {"radial_mlp": [10**6, 10**6]},
        {"xplor_onset": 7.0},
        {"self_connection": "none"},
        {"divide_by": "nothing"},
        {"embedding_channels": 0},
        {"parity": True, "inversion": False},
    ],
    ids=str,
)
def test_a_hostile_file_is_refused_at_once(absurd, tmp_path):
    path = tmp_path / "hostile.safetensors"
    modelfile.save(make(TINY), path, {})
    description = modelfile.read_metadata(path)
    description["config"] |= absurd
    save_file(load_file(path), path, metadata={"atomsml": json.dumps(description)})
    with pytest.raises(ValueError, match=r"hostile\.safetensors.*(must|unknown value|far larger than its file)"):
        modelfile.load(path)


@pytest.mark.parametrize("parity", [True, False])
def test_files_of_version_0_1_0_keep_their_meaning(parity, tmp_path):
    """`parity` was the name of what is `inversion` now; the files were written then, with an energy in a comment."""
    data = Path(__file__).parents[2] / "data" / "nequip"
    old, new = data / f"parity-{str(parity).lower()}-0.1.0.safetensors", tmp_path / "new.safetensors"
    assert modelfile.read_metadata(old)["config"]["parity"] is parity
    modelfile.save(modelfile.load(old), new, {})
    with np.load(data / "golden.npz") as golden:
        crystal = ase.Atoms(**{key: golden[f"triclinic/{key}"] for key in ("numbers", "positions", "cell", "pbc")})
    (expected,) = re.findall(r"-?\d+\.\d+(?= eV)", modelfile.read_metadata(old)["comment"])
    for path in (old, new):
        potential = modelfile.load(path)
        assert (potential.config.inversion, potential.config.parity) == (parity, False)
        energy = evaluate(potential, AtomicGraph.from_ase(crystal)).energy.item()
        assert abs(energy - float(expected)) < 1e-9 * abs(energy)
