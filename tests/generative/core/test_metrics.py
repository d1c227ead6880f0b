"""Confidence intervals against scipy."""

import math

import numpy as np
import pytest
from scipy import stats

from atomsml.generative.core.metrics import bootstrap, fraction, quantile, ratio


@pytest.mark.parametrize(("count", "of"), [(0, 1), (1, 1), (0, 20), (20, 20), (7, 20), (950, 1000), (1, 100_000)])
def test_fraction_is_wilsons(count: int, of: int) -> None:
    oracle = stats.binomtest(count, of).proportion_ci(method="wilson")
    found = fraction(count, of)
    np.testing.assert_allclose([found.low, found.high], oracle, rtol=1e-12, atol=1e-15)
    assert found.value == count / of


def test_fraction_of_nothing() -> None:
    assert math.isnan(fraction(0, 0).value)
    assert fraction(0, 0).to_json() == {"value": None, "low": None, "high": None, "of": 0, "unit": ""}


def test_quantile_is_the_percentile_bootstrap() -> None:
    values = np.random.default_rng(1).lognormal(size=200)
    oracle = stats.bootstrap((values,), np.median, method="percentile", random_state=2, n_resamples=5000)
    found = quantile(values, 0.5, "kcal/mol")
    assert found.value == np.median(values)
    # the ends of two bootstraps differ by their own noise, a tenth of the width at 1000 resamples
    width = oracle.confidence_interval.high - oracle.confidence_interval.low
    np.testing.assert_allclose([found.low, found.high], oracle.confidence_interval, atol=0.1 * width)
    assert found == quantile(values, 0.5, "kcal/mol")  # seeded


def test_bootstrap_of_a_mean_has_its_standard_error() -> None:
    values = np.random.default_rng(3).normal(size=400)
    draws = bootstrap(lambda counts: float(counts @ values) / len(values), len(values))
    # relative error of a standard deviation of 1000 draws: 1 / sqrt(2000) = 2 %, four times that
    assert draws.std() == pytest.approx(values.std() / math.sqrt(len(values)), rel=0.09)


def test_atoms_of_a_molecule_are_not_independent() -> None:
    """100 molecules of 20 atoms, all stable or none: the interval is that of 100 things, not of 2000."""
    parts = np.where(np.arange(100) < 80, 20, 0)
    found = ratio(parts, np.full(100, 20))
    assert found.value == 0.8
    error = math.sqrt(0.8 * 0.2 / 100)
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.15)
