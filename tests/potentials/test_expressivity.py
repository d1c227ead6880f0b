"""What each architecture can tell apart, and with how few layers or how low a degree: see docs/expressivity.md."""

from __future__ import annotations

from typing import Any

import pytest

from atomsml.potentials import POTENTIALS
from atomsml.testing.expressivity import CLEAR, experiments

EXPERIMENTS = experiments()
QUICK = [name for name in EXPERIMENTS if name != "rings of 4"]  # kernels for degree 4 take a minute to compile
NEVER = None
# layers for chains of 2, 3, 4 | degree for rings of 2, 3, 4 | layers for what 2, 3, 4 bodies cannot tell, mirror images
EXPECTED: dict[str, tuple[tuple[int | None, ...], ...]] = {
    "mace": ((2, 2, 3), (2, 3, 4), (1, 1, 2, NEVER)),
    "mace, correlation 2": ((2, 2, 3), (2, 3, 4), (1, 2, 2, NEVER)),
    "mace, gaunt, correlation 4": ((2, 2, 3), (2, 3, 4), (1, 1, 1, NEVER)),
    "nequip": ((3, 4, 5), (2, 3, 4), (2, 2, 2, NEVER)),
    "facet": ((2, 2, 3), (2, 3, 4), (1, 2, 2, NEVER)),
    "facet, order 3": ((2, 2, 3), (2, 3, 4), (1, 1, 2, NEVER)),
    "facet, mlp": ((2, 2, 3), (2, 3, 4), (1, 1, 1, 2)),
    "painn": ((2, 2, 3), (NEVER, NEVER, NEVER), (1, 2, 2, NEVER)),
    "egnn": ((2, 3, 3), (NEVER, NEVER, NEVER), (2, 2, 2, NEVER)),
    "egnn, paper": ((2, 3, 3), (NEVER, NEVER, NEVER), (2, 2, 2, NEVER)),
    "escn": ((1, 1, 2), (2, 3, 4), (1, 1, 1, NEVER)),
    "escn, mmax 1": ((1, 1, 2), (NEVER, NEVER, NEVER), (1, 1, 1, NEVER)),
    "equiformer_v2": ((1, 1, 2), (2, 3, 4), (1, 1, 1, NEVER)),
    "equiformer_v2, mmax 1": ((1, 1, 2), (NEVER, NEVER, NEVER), (1, 1, 1, NEVER)),
    "equiformer_v2, paper, gate": ((2, 2, 3), (2, 3, 4), (1, 1, 1, 2)),
}
CHANGES: dict[str, dict[str, Any]] = {
    "mace, correlation 2": {"correlation": 2},
    "mace, gaunt, correlation 4": {"product": "gaunt", "correlation": 4},
    "facet": {"num_bessel": None},
    "facet, order 3": {"order": 3, "num_bessel": None},
    "facet, mlp": {"pointwise": "mlp", "grid": (48, 47)},  # whose error is as small as rounding
    "egnn": {"coordinate_range": 30.0},  # random weights move atoms little; what they carry must not drown in rounding
    "egnn, paper": {"paper": True, "num_bessel": None, "readout_channels": None},
    "escn, mmax 1": {"mmax": 1},
    "equiformer_v2, mmax 1": {"mmax": 1},
    "equiformer_v2, paper, gate": {"paper": True, "activation": "gate", "num_bessel": None},
}


def test_every_architecture_has_its_row() -> None:
    assert {name.split(",")[0] for name in EXPECTED} == set(POTENTIALS)


@pytest.mark.parametrize("experiment", QUICK)
@pytest.mark.parametrize("row", EXPECTED)
def test_told_apart_from_here_on(row: str, experiment: str) -> None:
    architecture, changes, run = POTENTIALS[row.split(",")[0]], CHANGES.get(row, {}), EXPERIMENTS[experiment]
    fewest = dict(zip(EXPERIMENTS, (count for part in EXPECTED[row] for count in part), strict=True))[experiment]
    if fewest is not NEVER:
        assert run.separation(architecture, fewest, changes) > CLEAR
    below = run.most if fewest is NEVER else fewest - 1
    assert below == 0 or run.separation(architecture, below, changes) < CLEAR / 10
