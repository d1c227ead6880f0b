"""TM-scores that are known: copies, parts, superposed copies with a displacement; clusters and bounds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from atomsml.generative.proteins.metrics.tm_score import Reference, nearest_of, tm_score
from tests.generative.proteins.metrics.shapes import HELIX, STRAND, chain_of, fixture, ideal

NAMES = ("1guu", "2xcj", "2xdg", "1pdo")


def turned(coordinates: np.ndarray, seed: int) -> np.ndarray:
    return coordinates @ Rotation.random(random_state=seed).as_matrix().T + 10


def test_a_copy_has_one_and_a_part_its_share() -> None:
    """Of a part of n among N residues: 1 by its own length, n / N by the length of the whole."""
    whole = fixture("1pdo")
    part = chain_of(turned(whole.coordinates[20:80], 0))
    assert nearest_of(part, [whole]) == pytest.approx(1, abs=1e-6)
    assert nearest_of(whole, [part]) == pytest.approx(60 / len(whole), abs=0.02)  # and what else of it fits by chance
    found = tm_score([whole, part])
    assert found.metrics["pair_mean"].value == pytest.approx(1, abs=1e-6)
    assert found.metrics["clusters_0.5"].value == 0.5


def test_folds_that_differ_are_clusters_and_the_nearest_is_found_whatever_the_order() -> None:
    chains = [fixture(name) for name in NAMES]
    copies = [chain_of(turned(chain.coordinates, i)) for i, chain in enumerate(chains)]
    found = tm_score(chains, Reference("copies", copies))
    assert found.metrics["clusters_0.6"].value == 1
    assert found.metrics["nearest_median"].value == pytest.approx(1, abs=1e-6)
    assert found.metrics["novel"].value == 0
    assert found.columns["tm_of_reference"] == pytest.approx([1] * 4, abs=1e-6)
    both = tm_score([*chains, *copies])
    assert both.metrics["clusters_0.6"].value == 0.5
    assert both.columns["tm_of_another"] == pytest.approx([1] * 8, abs=1e-6)
    assert tm_score(chains).metrics["pair_mean"].value < 0.5
    assert "novel" not in tm_score(chains).metrics


def test_draws_of_one_chain_alone_say_nothing_of_pairs() -> None:
    """Every second draw of two chains has one of them twice."""
    pair = tm_score([fixture("1guu"), fixture("2xcj")]).metrics["pair_mean"]
    assert pair.low == pytest.approx(pair.value)
    assert pair.high == pytest.approx(pair.value)


def test_the_bound_leaves_the_highest() -> None:
    """All TM-scores by tmtools itself."""
    import tmtools

    chain, *others = [fixture(name) for name in ("2xdg", "1guu", "2xcj", "1pdo", "1brf", "1aap")]
    scores = [
        tmtools.tm_align(
            chain.coordinates[:, 1], each.coordinates[:, 1], "G" * len(chain), "G" * len(each)
        ).tm_norm_chain1
        for each in others
    ]
    assert nearest_of(chain, others) == max(scores)


def test_short_chains_have_no_fold() -> None:
    found = tm_score(
        [chain_of(ideal(*HELIX, n)) for n in (1, 2, 4)], Reference("strand", [chain_of(ideal(*STRAND, 3))])
    )
    assert found.metrics["pair_mean"].of == 0
    assert np.isnan(found.columns["tm_of_reference"]).all()
    assert np.isnan(found.metrics["nearest_max"].value)
