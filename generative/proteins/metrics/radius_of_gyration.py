"""Suite "radius_of_gyration": is a chain as compact as a folded one of its length.

Rg = sqrt(mean |x - mean x|^2) of CA, divided by 2.96 N^0.318 A, what chains of N residues have that fold alone
(set.py). Of 186 unbroken pieces of X-ray chains 85 % are within 15 %.

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
from atomsml.generative.proteins.set import radius_of_folded, radius_of_gyration

VERSION = "radius-of-gyration-1"
WITHIN = 0.15
THRESHOLDS = {"within": WITHIN}


def compactness(chains: Sequence[Chain]) -> SuiteResult:
    """Metrics over chains of finite coordinates; `failures` says which are too compact or too loose."""
    radii = np.array([radius_of_gyration(chain.coordinates) for chain in chains])
    ratios = radii / [radius_of_folded(len(chain)) for chain in chains]
    reasons = tuple("" if abs(each - 1) <= WITHIN else "too compact" if each < 1 else "not compact" for each in ratios)
    metrics = {"ratio": quantile(ratios, 0.5, "times"), "within": fraction(reasons.count(""), len(chains))}
    columns = {"radius": tuple(radii.tolist()), "radius_ratio": tuple(ratios.tolist())}
    return SuiteResult(VERSION, THRESHOLDS, metrics, reasons, columns)
