"""MACE obeys what every potential must, in its published variants."""

import dataclasses
import functools
import itertools
import json

import ase
import numpy as np
import pytest
import torch
from ase.data import covalent_radii
from safetensors.torch import load_file, save_file

from atomsml import AtomsMLCalculator, load, modelfile
from atomsml.graph import AtomicGraph
from atomsml.potential import evaluate
from atomsml.potentials.corrections.zbl import zbl_energy
from atomsml.potentials.mace import MACE, MACEConfig
from atomsml.testing import PotentialTests, assert_ase_contract, seeded

# no residual in the first layer: an isolated atom has no energy of interaction
TINY = MACEConfig(
    elements=(1, 8),
    channels=4,
    hidden_lmax=1,
    lmax=2,
    correlation=2,
    num_bessel=4,
    radial_mlp=(8,),
    readout_channels=4,
    avg_num_neighbors=8.0,
    residual_first=False,
)


@functools.cache
def make(config: MACEConfig) -> MACE:
    return seeded(MACE, config)


class TestMACE(PotentialTests):
    @pytest.fixture
    def potential(self):
        return make(TINY)


class TestMACEOfMaterials(PotentialTests):
    """Density normalisation, Agnesi transform and ZBL, as in MACE-MPA-0, with one and the same first layer."""

    @pytest.fixture
    def potential(self):
        return make(
            dataclasses.replace(
                TINY,
                elements=(13, 22, 29),
                correlation=3,
                channels=2,
                density_normalization=True,
                distance_transform="agnesi",
                zbl=True,
                inner_cutoff=1.5,
                scale=0.8,
            )
        )


class TestMACEWithResidual(PotentialTests):
    """Scalars only between the layers, as in MACE-MP-0 small."""

    @pytest.fixture
    def potential(self):
        return make(dataclasses.replace(TINY, hidden_lmax=0, residual_first=True, shift=0.1))

    def test_isolated_atom_is_its_reference(self, potential):
        """The residual and the shift give an isolated atom an energy of its own; atoms far apart have just that."""
        alone = [evaluate(potential, atom_graph([z])).energy for z in potential.elements]
        apart = evaluate(potential, atom_graph(list(potential.elements))).atom_energies
        torch.testing.assert_close(apart, torch.cat(alone), rtol=0, atol=1e-9)
        assert (apart - potential.references).abs().min() > 1e-3


class TestMACEOnTheGrid(PotentialTests):
    @pytest.fixture
    def potential(self):
        return make(dataclasses.replace(TINY, product="gaunt", correlation=3))


class TestMACEWithGates(PotentialTests):
    """Gated interactions on fewer channels, Agnesi transform and ZBL, as in MACE-MH-1."""

    @pytest.fixture
    def potential(self):
        return make(
            dataclasses.replace(
                TINY,
                residual_first=True,
                interaction="gated",
                edge_channels=2,
                radial_mlp=(8, 8),
                distance_transform="agnesi",
                zbl=True,
                inner_cutoff=0.8,
            )
        )

    def test_isolated_atom_is_its_reference(self, potential):
        """The residual gives an isolated atom an energy of its own; atoms far apart have just that."""
        alone = [evaluate(potential, atom_graph([z])).energy for z in potential.elements]
        apart = evaluate(potential, atom_graph(list(potential.elements))).atom_energies
        torch.testing.assert_close(apart, torch.cat(alone), rtol=0, atol=1e-9)
        assert (apart - potential.references).abs().min() > 1e-3

    def test_there_is_no_program(self, potential):
        assert potential.program() is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"interaction": "nonlinear"}, "interaction must be 'linear' or 'gated'"),
        ({"edge_channels": 2}, "edge_channels are of gated interactions"),
        ({"interaction": "gated"}, "gated interactions have residuals"),
        ({"interaction": "gated", "residual_first": True, "radial_mlp": ()}, "radial_mlp is empty"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **changes)


def atom_graph(numbers: list[int]) -> AtomicGraph:
    return AtomicGraph.from_ase(ase.Atoms(numbers, [(100.0 * i, 0, 0) for i in range(len(numbers))]))


def test_atoms_on_top_of_each_other_feel_the_repulsion_alone():
    """Below the inner cutoff the network fades with the fifth power of the distance."""
    config = dataclasses.replace(TINY, zbl=True, scale_zbl=False, inner_cutoff=1.0)
    potential, r, z = make(config), 2e-3, config.elements[-1]
    pair = AtomicGraph.from_ase(ase.Atoms([z, z], [(0, 0, 0), (0, 0, r)]))
    lengths, charges = torch.tensor([r], dtype=torch.float64), torch.tensor([z])
    repulsion = 2 * zbl_energy(lengths, charges, charges, config.envelope_power)
    alone = 2 * evaluate(potential, atom_graph([z])).energy
    torch.testing.assert_close(evaluate(potential, pair).energy - alone, repulsion, rtol=1e-9, atol=0)


def test_atoms_whose_cores_overlap_feel_the_repulsion_alone():
    """Up to 0.7 of where a core ends; from there on the network is what it is without cores."""
    config = dataclasses.replace(TINY, zbl=True, scale_zbl=False, core=0.65)
    potential, without = make(config), make(dataclasses.replace(config, core=0.0))
    z, w = config.elements[0], config.elements[-1]
    bond = covalent_radii[z] + covalent_radii[w]
    alone = sum(evaluate(potential, atom_graph([x])).energy for x in (z, w))
    for r, repelled in ((0.45 * bond, True), (0.66 * bond, False)):
        pair = AtomicGraph.from_ase(ase.Atoms([z, w], [(0, 0, 0), (0, 0, r)]))
        lengths, charges = torch.tensor([r], dtype=torch.float64), torch.tensor([[z], [w]])
        repulsion = alone + 2 * zbl_energy(lengths, charges[0], charges[1], config.envelope_power)
        expected = repulsion if repelled else evaluate(without, pair).energy
        torch.testing.assert_close(evaluate(potential, pair).energy, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("wrong", [{"core": 0.5}, {"core": 0.5, "zbl": True, "density_normalization": True}])
def test_a_core_needs_repulsion_and_messages_as_they_are(wrong):
    with pytest.raises(ValueError, match="core"):
        dataclasses.replace(TINY, **wrong)


class TestMACEWithCores(PotentialTests):
    """Of which those of neighbours in the tests' crystals overlap in part."""

    @pytest.fixture
    def potential(self):
        return make(dataclasses.replace(TINY, residual_first=True, zbl=True, scale_zbl=False, core=0.95))

    def test_isolated_atom_is_its_reference(self, potential):
        alone = [evaluate(potential, atom_graph([z])).energy for z in potential.elements]
        apart = evaluate(potential, atom_graph(list(potential.elements))).atom_energies
        torch.testing.assert_close(apart, torch.cat(alone), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["organic-xtb", "refractory-pbe"])
def test_embedded_models_do_not_let_atoms_fall_into_each_other(name):
    """Two atoms of any two elements have more energy at any closer distance than at 0.55 of their bond length."""
    potential = load(name)
    for z, w in itertools.combinations_with_replacement(potential.elements, 2):
        distances = np.geomspace(0.55 * (covalent_radii[z] + covalent_radii[w]), 2e-3, 40)
        graphs = [AtomicGraph.from_ase(ase.Atoms([z, w], [(0, 0, 0), (0, 0, r)])) for r in distances]
        together = AtomicGraph.from_list(graphs).with_neighbors(potential.cutoff)
        energies = evaluate(potential, together, forces=False).energy
        assert (energies[1:] > energies[0]).all(), f"{z}, {w}"


@pytest.mark.parametrize("wrong", [{"inner_cutoff": 1.0}, {"zbl": True, "inner_cutoff": 9.0}])
def test_an_inner_cutoff_needs_repulsion_and_room(wrong):
    with pytest.raises(ValueError, match="inner_cutoff"):
        dataclasses.replace(TINY, **wrong)


def test_ase_contract():
    assert_ase_contract(AtomsMLCalculator(make(TINY), device="cpu"), ("O", "H"))


@pytest.mark.parametrize(
    "absurd",
    [
        {"lmax": 60},
        {"correlation": 30},
        {"correlation": 4},
        {"num_layers": 10**6},
        {"channels": 10**9},
        {"num_bessel": 10**9},
        {"radial_mlp": [10**6, 10**6]},
        {"elements": []},
        {"elements": [0, 200]},
        {"cutoff": -1.0},
    ],
    ids=str,
)
def test_a_hostile_file_is_refused_at_once(absurd, tmp_path):
    path = tmp_path / "hostile.safetensors"
    modelfile.save(make(TINY), path, {})
    description = modelfile.read_metadata(path)
    description["config"] |= absurd
    save_file(load_file(path), path, metadata={"atomsml": json.dumps(description)})
    with pytest.raises(ValueError, match=r"hostile\.safetensors.*(must|not supported|far larger than its file)"):
        modelfile.load(path)
