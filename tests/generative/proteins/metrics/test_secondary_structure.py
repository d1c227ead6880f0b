from __future__ import annotations

import numpy as np
import pytest

from atomsml.generative.proteins.metrics.secondary_structure import secondary_structure
from tests.generative.proteins.metrics.shapes import HELIX, antiparallel_sheet, chain_of, fixture, ideal


def test_shares_over_chains() -> None:
    found = secondary_structure([chain_of(ideal(*HELIX, 12)), chain_of(antiparallel_sheet(9))])
    assert found.metrics["helix"].value == pytest.approx(10 / 30)
    assert found.metrics["strand"].value == pytest.approx(14 / 30)
    assert found.metrics["coil"].value == pytest.approx(6 / 30)
    assert found.columns["helix"] == pytest.approx((10 / 12, 0.0))


def test_helices_of_mirror_images_turn_to_the_left() -> None:
    chain = fixture("2xcj")
    assert secondary_structure([chain]).metrics["left_handed"].value == 0
    mirrored = secondary_structure([chain_of(-chain.coordinates)])
    assert mirrored.metrics["left_handed"].value > 0.95
    assert mirrored.metrics["helix"].value > 0.5


def test_one_residue_is_coil_without_handedness() -> None:
    metrics = secondary_structure([chain_of(ideal(*HELIX, 1))]).metrics
    assert metrics["coil"].value == 1
    assert np.isnan(metrics["left_handed"].value)
