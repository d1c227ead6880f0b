"""Regions against angles that textbooks place, and chains that the table was made from."""

from __future__ import annotations

import numpy as np
import pytest

from atomsml.generative.proteins.metrics.ramachandran import ALLOWED, FAVOURED, OUTLIER, ramachandran, region_of
from tests.generative.proteins.metrics.shapes import HELIX, STRAND, chain_of, fixture, ideal


@pytest.mark.parametrize(
    ("phi", "psi", "letter"),
    [
        (*HELIX, FAVOURED),
        (-120.0, 130.0, FAVOURED),  # strands
        (-65.0, 145.0, FAVOURED),  # polyproline
        (57.0, 40.0, FAVOURED),  # left-handed helices, of glycine and asparagine
        (85.0, -170.0, FAVOURED),  # of glycine
        (180.0, 180.0, FAVOURED),
        (0.0, 0.0, OUTLIER),  # N and O on each other
        (0.0, 120.0, OUTLIER),
        (120.0, 90.0, OUTLIER),
        (70.0, -60.0, ALLOWED),  # turns of glycine
    ],
)
def test_regions(phi: float, psi: float, letter: str) -> None:
    assert region_of(np.array([[phi, psi]])).tolist() == [letter]
    wrapped = region_of(np.array([[phi - 360, psi + 360]]))
    assert wrapped.tolist() == [letter]


def test_shares_are_of_residues_that_have_both_angles() -> None:
    chains = [chain_of(ideal(*HELIX, 12)), chain_of(ideal(0.0, 120.0, 7))]
    found = ramachandran(chains)
    assert found.metrics["favoured"].value == pytest.approx(10 / 15)
    assert found.metrics["outliers"].value == pytest.approx(5 / 15)
    assert found.columns["ramachandran_outliers"] == (0.0, 1.0)
    assert ramachandran([chain_of(ideal(*STRAND, 7))]).metrics["favoured"].value == 1
    assert np.isnan(ramachandran([chain_of(ideal(*STRAND, 2))]).metrics["outliers"].value)


def test_natural_chains_are_favoured_and_their_mirror_images_less() -> None:
    chains = [fixture(name) for name in ("1guu", "2xcj", "2xdg", "1pdo")]
    mirrored = [chain_of(-chain.coordinates) for chain in chains]
    natural, images = ramachandran(chains).metrics["favoured"], ramachandran(mirrored).metrics["favoured"]
    assert natural.value > 0.95
    assert images.high < natural.low
