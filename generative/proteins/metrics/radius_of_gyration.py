"""Suite "radius_of_gyration": is a chain as compact as a folded one of its length.

Rg = sqrt(mean |x - mean x|^2) of CA, divided by 2.96 N^0.318 A, what chains of N residues from X-ray structures have (a
fit to the 160 chains of benchmarks/README.md's protein data, of 50 to 266 residues; each is within 15 % but for 7 of
them).

| metric | what it is |
|---|---|
| ratio | the median of Rg / (2.96 N^0.318 A) |
| within | share of chains between 0.85 and 1.15 |
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from atomsml.generative.core.metrics import SuiteResult, fraction, quantile
from atomsml.generative.proteins.backbones import Chain

VERSION = "radius-of-gyration-1"
PREFACTOR, EXPONENT = 2.96, 0.318  # Angstrom
WITHIN = 0.15
THRESHOLDS = {"prefactor": PREFACTOR, "exponent": EXPONENT, "within": WITHIN}


def radius_of_gyration(chains: Sequence[Chain]) -> SuiteResult:
    """Metrics over chains of finite coordinates; `failures` says which are too compact or too loose."""
    radii = np.array([radius(chain) for chain in chains])
    ratios = radii / expected(np.array([len(chain) for chain in chains], float))
    reasons = tuple("" if abs(each - 1) <= WITHIN else "too compact" if each < 1 else "not compact" for each in ratios)
    metrics = {"ratio": quantile(ratios, 0.5, "times"), "within": fraction(reasons.count(""), len(chains))}
    return SuiteResult(VERSION, THRESHOLDS, metrics, reasons, {"radius": tuple(radii), "radius_ratio": tuple(ratios)})


def radius(chain: Chain) -> float:
    """Of gyration, of CA, in Angstrom."""
    places = chain.coordinates[:, 1]
    return float(np.sqrt(((places - places.mean(axis=0)) ** 2).sum(axis=-1).mean()))


def expected(residues: np.ndarray) -> np.ndarray:
    """That of folded chains of so many residues, in Angstrom."""
    return PREFACTOR * residues**EXPONENT
