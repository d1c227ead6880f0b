from __future__ import annotations

import json
import math

import numpy as np
import pytest

from atomsml.generative.proteins.metrics.evaluate import evaluate_backbones, summary
from tests.generative.proteins.metrics.shapes import HELIX, chain_of, fixture, ideal


def test_a_chain_that_is_not_finite_is_named_and_counts_in_nothing_else() -> None:
    good, bad = fixture("2xcj"), chain_of(np.full((10, 4, 3), np.nan))
    found = evaluate_backbones([bad, good, chain_of(-good.coordinates)], tm=False)
    assert found.failures[0] == "not finite"
    assert found.failures[1] == ""
    assert "a mirror image" in found.failures[2]
    assert found.finite.value == pytest.approx(2 / 3)
    assert found.columns["residues"] == (10, len(good), len(good))
    assert math.isnan(found.columns["helix"][0])
    assert found.columns["helix"][1] > 0.5
    assert found.suites["geometry"].metrics["unbroken"].of == 2
    json.dumps(found.to_json(), allow_nan=False)


def test_summary_has_the_values_of_the_suites() -> None:
    chains = [fixture("2xcj"), fixture("1pdo")]
    found, whole = summary(chains), evaluate_backbones(chains, tm=False)
    assert found["finite"] == 1
    assert found["secondary_structure_helix"] == whole.suites["secondary_structure"].metrics["helix"].value
    assert summary([*chains, chain_of(np.full((4, 4, 3), np.inf))])["finite"] == pytest.approx(2 / 3)


def test_chains_of_nothing() -> None:
    assert summary([]) == {}
    assert summary([chain_of(np.full((4, 4, 3), np.nan))]) == {"finite": 0}
    assert summary([chain_of(ideal(*HELIX, 1))])["secondary_structure_helix"] == 0
    with pytest.raises(ValueError, match="no chains"):
        evaluate_backbones([])
    with pytest.raises(ValueError, match="finite"):
        evaluate_backbones([chain_of(np.full((4, 4, 3), np.nan))])
