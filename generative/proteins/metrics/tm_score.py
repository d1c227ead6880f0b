"""Suite "tm_score": how alike the folds of chains are, to each other and to those of a reference, by TM-align.

    TM = max over superpositions of (1 / N) sum_i 1 / (1 + (d_i / d0(N))^2),  d0(N) = 1.24 (N - 15)^(1/3) - 1.8 A

over aligned CA (Zhang and Skolnick, Proteins 57, 702, 2004; Nucleic Acids Res. 33, 2302, 2005). Above 0.5 two chains
mostly have one fold, unrelated ones have about 0.3 (Xu and Zhang, Bioinformatics 26, 889, 2010). TM-align searches; it
may miss the best superposition.

| metric | what it is |
|---|---|
| pair_mean, pair_high | of all pairs: the mean, and what 90 % stay below |
| clusters_0.5, clusters_0.6 | clusters by single linkage at that TM, divided by the number of chains |
| nearest_median, nearest_high, nearest_max | of the chain of the reference that is most alike |
| novel | share of chains whose nearest in the reference has a TM below 0.5 |

Of a pair N is the length of the shorter chain: a short one that is a part of a long one is no other fold. To a
reference N is the length of the generated chain. The more chains there are, the fewer clusters for each of them; the
larger a reference, the nearer its nearest. So numbers of sets of different sizes do not compare.

The interval of clusters is 1.96 standard errors of the jackknife; copies that a bootstrap draws would be clusters of
their own chain. That of `nearest_max` is none: the largest of a sample says nothing of the next one.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from types import ModuleType
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from atomsml.generative.core.metrics import (
    NORMAL_QUANTILE,
    Follow,
    Metric,
    SuiteResult,
    bootstrap,
    fraction,
    quantile,
    quietly,
)
from atomsml.generative.proteins.backbones import Chain

VERSION = "tm-score-1"
SHORTEST = 5  # residues; with fewer there is no fold, and of one or two TM-align ends the whole process
CLUSTERS = (0.5, 0.6)
NOVEL = 0.5
HIGH = 0.9  # quantile
BINS = 10  # of the distribution between 0 and 1
THRESHOLDS = {"shortest": SHORTEST, "clusters": list(CLUSTERS), "novel": NOVEL, "high": HIGH}


@dataclass(frozen=True)
class Reference:
    """Chains to compare with, such as those of training."""

    name: str
    chains: Sequence[Chain]

    @property
    def sha256(self) -> str:
        """Of the places of CA to 1e-3 A, in order."""
        digest = hashlib.sha256()
        for chain in self.chains:
            digest.update(np.round(1000 * chain.coordinates[:, 1]).astype("<i8").tobytes())
        return digest.hexdigest()

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "sha256": self.sha256, "chains": len(self.chains)}


def tm_score(chains: Sequence[Chain], reference: Reference | None = None, follow: Follow | None = None) -> SuiteResult:
    """Metrics over chains of finite coordinates; without a reference, nothing of novelty.

    Raises:
        ModuleNotFoundError: tmtools is not installed.
    """
    check_installed()
    follow = follow or quietly
    large = np.array([len(chain) >= SHORTEST for chain in chains], bool)
    known = [chain for chain, enough in zip(chains, large, strict=True) if enough]
    scores = np.zeros((len(known), len(known)))
    pairs = list(combinations(range(len(known)), 2))
    for i, j in follow(pairs, len(pairs), "TM-scores of pairs"):
        scores[i, j] = scores[j, i] = max(_tm(known[i], known[j]))
    metrics = _of_pairs(scores)
    types = _histogram("pairs", scores[np.triu_indices(len(known), 1)])
    columns = {}
    if len(known) > 1:
        columns["tm_of_another"] = _spread(scores.max(axis=1), large)
    if reference is not None:
        found = follow(known, len(known), "TM-scores of the reference")
        nearest = np.array([nearest_of(chain, reference.chains) for chain in found])
        metrics |= of_nearest(nearest)
        types |= _histogram("nearest", nearest)
        columns["tm_of_reference"] = _spread(nearest, large)
    return SuiteResult(VERSION, THRESHOLDS, metrics, (), columns, types)


def nearest_of(chain: Chain, others: Sequence[Chain]) -> float:
    """The highest TM-score, by the length of `chain`, to any of the others; 0 of none.

    TM <= (residues of the other) / (residues of `chain`), so that the others are tried from the longest on until the
    bound is below what was found.
    """
    highest = 0.0
    for other in sorted(others, key=len, reverse=True):
        if len(other) < SHORTEST or len(other) / len(chain) <= highest:
            break
        highest = max(highest, _tm(chain, other)[0])
    return highest


def _tm(one: Chain, other: Chain) -> tuple[float, float]:
    """By the length of the one and of the other."""
    places = (np.ascontiguousarray(each.coordinates[:, 1], np.float64) for each in (one, other))
    # it aligns by places alone; letters only pass through
    found = check_installed().tm_align(*places, "G" * len(one), "G" * len(other))
    return float(found.tm_norm_chain1), float(found.tm_norm_chain2)


def _of_pairs(scores: np.ndarray) -> dict[str, Metric]:
    """Of a symmetric table with zeros on the diagonal."""
    chains = len(scores)
    pairs = np.triu_indices(chains, 1)
    if not len(pairs[0]):
        nothing = Metric(math.nan, math.nan, math.nan, chains, "TM")
        return dict.fromkeys(("pair_mean", "pair_high"), nothing)
    order = np.argsort(scores[pairs])
    values = scores[pairs][order]

    def statistics(counts: np.ndarray) -> np.ndarray:
        """Of the pairs of different chains among those drawn."""
        weights = (counts[pairs[0]] * counts[pairs[1]])[order]
        if not weights.any():  # one chain alone was drawn
            return np.full(2, math.nan)
        high = values[np.searchsorted(np.cumsum(weights), HIGH * weights.sum())]
        return np.array([values @ weights / weights.sum(), high])

    middle = statistics(np.ones(chains, int))
    low, high = np.nanquantile(bootstrap(statistics, chains), (0.025, 0.975), axis=0)
    found = {
        name: Metric(float(middle[i]), float(low[i]), float(high[i]), chains, "TM")
        for i, name in enumerate(("pair_mean", "pair_high"))
    }
    return {**found, **{f"clusters_{level}": _clusters(scores >= level) for level in CLUSTERS}}


def _clusters(linked: np.ndarray) -> Metric:
    """Clusters for each chain, with the interval of the jackknife."""
    chains = len(linked)
    share = _count(linked) / chains
    without = [np.delete(np.delete(linked, i, 0), i, 1) for i in range(chains)]
    shares = np.array([_count(each) / (chains - 1) for each in without])
    half = NORMAL_QUANTILE * math.sqrt((chains - 1) * float(shares.var()))
    return Metric(share, max(share - half, 0.0), min(share + half, 1.0), chains)


def _count(linked: np.ndarray) -> int:
    return int(connected_components(csr_array(linked), directed=False)[0])


def of_nearest(nearest: np.ndarray) -> dict[str, Metric]:
    """Metrics of the highest TM-score of each chain to a reference."""
    largest = float(nearest.max()) if len(nearest) else math.nan
    return {
        "nearest_median": quantile(nearest, 0.5, "TM"),
        "nearest_high": quantile(nearest, HIGH, "TM"),
        "nearest_max": Metric(largest, math.nan, math.nan, len(nearest), "TM"),
        "novel": fraction(int((nearest < NOVEL).sum()), len(nearest)),
    }


def _histogram(name: str, values: np.ndarray) -> dict[str, Metric]:
    """Shares of the values in each tenth between 0 and 1; pairs are not independent, so those have no interval."""
    counts, edges = np.histogram(np.clip(values, 0, 1), BINS, (0, 1))
    labels = [f"{name} {low:.1f}-{high:.1f}" for low, high in pairwise(edges)]
    if name == "nearest":
        return {label: fraction(int(count), len(values)) for label, count in zip(labels, counts, strict=True)}
    shares = counts / len(values) if len(values) else np.full(BINS, math.nan)
    return {
        label: Metric(float(share), math.nan, math.nan, len(values))
        for label, share in zip(labels, shares, strict=True)
    }


def _spread(values: np.ndarray, large: np.ndarray) -> tuple[float, ...]:
    """For all chains, NaN for those too short."""
    spread = np.full(len(large), np.nan)
    spread[large] = values
    return tuple(spread.tolist())


def check_installed() -> ModuleType:
    """tmtools.

    Raises:
        ModuleNotFoundError: it is not there.
    """
    try:
        import tmtools
    except ImportError as error:
        raise ModuleNotFoundError('TM-scores need tmtools; run "pip install atomsml[proteins]"') from error
    module: ModuleType = tmtools
    return module
