"""The mean of bounds and its interval, beside scipy's; samples that are impossible; a generator without a bound."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from ase.build import molecule
from scipy import stats

from atomsml.generative.core.likelihood import Likelihood, likelihood
from atomsml.generative.core.modelfile import load_generator
from atomsml.generative.molecules.edm.model import EDM, EDMConfig
from atomsml.generative.molecules.set import MoleculeSet


def molecules(*names: str) -> MoleculeSet:
    images = [molecule(name) for name in names]
    known = {name: np.zeros(len(images)) for name in ("gap", "dipole")}
    numbers, positions = [each.numbers for each in images], [each.positions for each in images]
    return MoleculeSet.from_rows(numbers, positions, [None] * len(images), known)


@pytest.fixture(scope="module")
def model() -> EDM:
    samples = molecules("CH4", "NH3", "H2O", "CH4")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = EDM(EDMConfig(**{**EDM.measure(samples), "channels": 8, "num_layers": 1}))
    model.fit(samples)
    return model


def test_the_mean_and_its_interval(model: EDM) -> None:
    """Three sizes, small molecules first, each in two batches of 64 and what is left."""
    samples = molecules(*["CH4", "NH3", "H2O"] * 30)
    found = likelihood(model, samples, draws=2, seed=3)
    generator, bounds = torch.Generator().manual_seed(3), []
    order = np.argsort(samples.sizes, kind="stable")
    for rows in (order[:64], order[64:]):
        batch = samples.batch(rows)
        with torch.no_grad():
            bounds += torch.stack([model.nll_bound(batch, generator) for _ in range(2)]).double().mean(0).tolist()
    low, high = stats.norm.interval(0.95, np.mean(bounds), stats.sem(bounds))
    assert (found.nll_bound, found.low, found.high) == pytest.approx((np.mean(bounds), low, high), rel=1e-9)
    assert (found.of, found.infinite) == (90, 0)
    assert likelihood(model, samples, draws=2, seed=3) == found


def test_impossible_sizes_are_counted_not_averaged(model: EDM) -> None:
    found = likelihood(model, molecules("CH4", "NH3", "HCN"))  # of three atoms is water, of two nothing
    assert (found.of, found.infinite) == (3, 0)
    found = likelihood(model, molecules("CH4", "H2O", "CN", "N2"))
    assert (found.of, found.infinite) == (2, 2)
    assert math.isfinite(found.nll_bound)
    alone = likelihood(model, molecules("N2"))
    assert (alone.of, alone.infinite) == (0, 1)
    assert alone.to_json() == {"nll_bound": None, "low": None, "high": None, "of": 0, "infinite": 1}


def test_json_of_numbers() -> None:
    assert Likelihood(-3.0, -4.0, -2.0, 5, 1).to_json() == {
        **{"nll_bound": -3.0, "low": -4.0, "high": -2.0},
        **{"of": 5, "infinite": 1},
    }


def test_a_generator_without_a_bound_is_refused() -> None:
    flow = load_generator("qm9-flow")
    assert not flow.has_bound
    with pytest.raises(ValueError, match="MoleculeFlow has no bound of the likelihood"):
        likelihood(flow, molecules("CH4"))
