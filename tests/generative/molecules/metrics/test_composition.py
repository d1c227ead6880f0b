"""Suite composition on molecules that are counted by hand, and its noise against samples of the reference."""

import json
import math
from functools import cache

import numpy as np
import pytest
from rdkit import Chem
from scipy.spatial.distance import cityblock

from atomsml.generative.molecules.metrics.composition import FREQUENT, composition, profile

KINDS = ["CCO", "CC=O", "CC(=O)O", "c1ccoc1", "C1CC1", "CC#N", "CCN", "COC", "CCCO", "OCC#C"]


@cache
def _mols(number: int, seed: int) -> list[Chem.Mol]:
    """Of ten kinds, the first ten times as frequent as the last."""
    shares = np.linspace(10, 1, len(KINDS))
    drawn = np.random.default_rng(seed).choice(len(KINDS), number, p=shares / shares.sum())
    mols = [Chem.MolFromSmiles(smiles) for smiles in KINDS]
    return [mols[kind] for kind in drawn]


def test_shares_and_distances_by_hand() -> None:
    ours = [Chem.MolFromSmiles(smiles) for smiles in ("CCO", "CCO", "CC=O", "C1CC1")]
    theirs = [Chem.MolFromSmiles(smiles) for smiles in ("CCO", "CC=O", "CC=O", "CF")]
    found = composition(ours, profile(theirs))
    assert [found.types[name].value for name in ("alcohol", "aldehyde", "acyclic", "ring of 3")] == [
        0.5,
        0.25,
        0.75,
        0.25,
    ]
    assert [found.reference[name].value for name in ("alcohol", "aldehyde", "acyclic")] == [0.25, 0.5, 1]
    assert found.types["elements: O"].value == pytest.approx(3 / 12)
    # alcohol 2, aldehyde 1, cyclopropane 1 of 4; alcohol 1, aldehyde 2, fluoride 1 of 4
    assert found.metrics["groups_distance"].value == pytest.approx(cityblock([2, 1, 1, 0], [1, 2, 0, 1]) / 4 / 2)
    # C 9, O 3 of 12; C 7, O 3, F 1 of 11
    oracle = cityblock(np.array([9, 3, 0]) / 12, np.array([7, 3, 1]) / 11) / 2
    assert found.metrics["elements_distance"].value == pytest.approx(oracle)
    assert found.metrics["rings_distance"].value == pytest.approx(0.25)
    assert found.metrics["heavy_atoms_distance"].value == pytest.approx(0.25)  # one of two atoms
    # fluoride: none of four beside one of four, each with half a molecule more
    assert found.metrics["worst_factor"].value == pytest.approx(1.5 / 0.5)
    distances = [metric.value for name, metric in found.metrics.items() if name.endswith("_distance")]
    assert found.metrics["distance"].value == pytest.approx(np.mean(distances))


def test_a_set_has_no_distance_from_itself() -> None:
    mols = _mols(300, 1)
    found = composition(mols, profile(mols))
    for name, metric in found.metrics.items():
        assert metric.value == pytest.approx(1 if name.endswith("factor") else 0, abs=1e-12)
        assert metric.low <= metric.value < metric.high


def test_noise_is_that_of_samples_of_the_reference() -> None:
    mols, number, rng = _mols(1000, 2), 100, np.random.default_rng(3)
    reference = profile(mols)
    samples = [composition([mols[i] for i in rng.permutation(1000)[:number]], reference) for _ in range(10)]
    for name in ("distance", "groups_distance"):
        values = [sample.metrics[name].value for sample in samples]
        # the mean of ten values of this spread, three times
        error = 3 * np.std(values) / math.sqrt(len(values))
        # drawn without replacement: sqrt(1 / number - 1 / 1000) instead of + 1 / 1000
        noise = samples[0].reference[name].value * math.sqrt((1 / number - 1e-3) / (1 / number + 1e-3))
        assert np.mean(values) == pytest.approx(noise, abs=error), name


def test_intervals_have_the_spread_of_samples() -> None:
    reference = profile([mol for mol in _mols(1000, 2) if mol.GetNumHeavyAtoms() == 3])  # far from what is drawn
    samples = [composition(_mols(100, seed), reference).metrics["groups_distance"] for seed in range(10, 26)]
    width = np.mean([metric.high - metric.low for metric in samples]) / 2 / 1.96
    # a standard deviation of 16 values is known to 18 %, three times that
    assert width == pytest.approx(np.std([metric.value for metric in samples]), rel=0.54)


def test_rare_features_do_not_count() -> None:
    common, rare = Chem.MolFromSmiles("CCO"), Chem.MolFromSmiles("CC#N")
    few = profile([common] * 199 + [rare])
    assert FREQUENT > 1 / 200
    assert composition([common] * 50 + [rare] * 50, few).metrics["worst_factor"].value < 2.1  # alcohols alone


def test_profiles_survive_json() -> None:
    mols, reference = _mols(50, 3), profile(_mols(500, 4))
    read = type(reference).from_json(json.loads(json.dumps(reference.to_json())))
    found, again = composition(mols, reference), composition(mols, read)
    assert again.metrics == found.metrics
    assert again.reference.keys() == found.reference.keys()
    assert again.reference["distance"].value == pytest.approx(found.reference["distance"].value, rel=1e-3)


def test_without_a_reference_there_are_shares_alone() -> None:
    found = composition(_mols(20, 5))
    assert not found.metrics
    assert not found.reference
    assert found.types["acyclic"].of == 20
    assert composition([]).types["acyclic"].of == 0
    assert math.isnan(composition([], profile(_mols(20, 5))).metrics["worst_factor"].high)
