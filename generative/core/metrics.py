"""What suites return: metrics with confidence intervals, and why each sample failed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np

NORMAL_QUANTILE = 1.959963984540054  # of 97.5 %
RESAMPLES = 1000

Item = TypeVar("Item")


class Follow(Protocol):
    """Passes the items of a long task on as they come, and may show how far it is."""

    def __call__(self, items: Iterable[Item], total: int, label: str) -> Iterator[Item]: ...


def quietly(items: Iterable[Item], total: int, label: str) -> Iterator[Item]:
    """Follow nothing."""
    yield from items


@dataclass(frozen=True)
class Metric:
    """A number, its 95 % confidence interval, and how many molecules it is about."""

    value: float  # NaN where `of` is 0
    low: float
    high: float
    of: int
    unit: str = ""  # "" for fractions

    def to_json(self) -> dict[str, Any]:
        """JSON has no NaN: null instead."""
        return {key: None if isinstance(x, float) and not math.isfinite(x) else x for key, x in asdict(self).items()}


@dataclass(frozen=True)
class SuiteResult:
    """What a suite found."""

    version: str
    thresholds: Mapping[str, Any]  # what its numbers depend on
    metrics: Mapping[str, Metric]
    failures: tuple[str, ...]  # of each molecule: why it failed, "" if it did not; none where the suite judges all
    columns: Mapping[str, tuple[float, ...]] = field(default_factory=dict)  # further numbers of each molecule, or NaN
    types: Mapping[str, Metric] = field(default_factory=dict)  # the same metric of each kind of bond, angle and torsion
    reference: Mapping[str, Metric] = field(default_factory=dict)  # some of both, as the reference itself has them

    def to_json(self) -> dict[str, Any]:
        """Without what is said of each molecule."""
        tables = {"metrics": self.metrics, "types": self.types, "reference": self.reference}
        written = {
            table: {name: metric.to_json() for name, metric in metrics.items()}
            for table, metrics in tables.items()
            if metrics or table == "metrics"
        }
        return {"version": self.version, "thresholds": dict(self.thresholds), **written}


def fraction(count: int, of: int) -> Metric:
    """A fraction with Wilson's interval (J. Am. Stat. Assoc. 22, 209 (1927)): `count` of `of` independent molecules.

    (p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)
    """
    if of == 0:
        return Metric(math.nan, math.nan, math.nan, 0)
    p, z2 = count / of, NORMAL_QUANTILE**2
    centre, spread = p + z2 / (2 * of), NORMAL_QUANTILE * math.sqrt(p * (1 - p) / of + z2 / (4 * of**2))
    # at p = 0 and 1 an end of the interval is p, but for rounding
    low, high = (centre - spread) / (1 + z2 / of), (centre + spread) / (1 + z2 / of)
    return Metric(p, 0.0 if count == 0 else low, 1.0 if count == of else high, of)


def bootstrap(statistic: Callable[[np.ndarray], float | np.ndarray], of: int, resamples: int = RESAMPLES) -> np.ndarray:
    """(resamples, ...) `statistic` of molecules drawn with replacement: it gets (of,) how often each was drawn."""
    rng = np.random.default_rng(0)
    return np.array([statistic(np.bincount(rng.integers(of, size=of), minlength=of)) for _ in range(resamples)])


def quantile(values: np.ndarray, level: float, unit: str) -> Metric:
    """A quantile of one number for each molecule, with the percentile interval of the bootstrap."""
    if len(values) == 0:
        return Metric(math.nan, math.nan, math.nan, 0, unit)
    draws = bootstrap(lambda counts: float(np.quantile(np.repeat(values, counts), level)), len(values))
    low, high = np.quantile(draws, (0.025, 0.975))
    return Metric(float(np.quantile(values, level)), float(low), float(high), len(values), unit)


def ratio(parts: np.ndarray, sizes: np.ndarray) -> Metric:
    """sum(parts) / sum(sizes) over molecules, with the percentile interval of the bootstrap.

    The atoms of a molecule are stable or not together: as independent ones they would make the interval too narrow.
    """
    if sizes.sum() == 0:
        return Metric(math.nan, math.nan, math.nan, 0)
    draws = bootstrap(lambda counts: float(counts @ parts) / max(float(counts @ sizes), 1.0), len(parts))
    low, high = np.quantile(draws, (0.025, 0.975))
    return Metric(float(parts.sum() / sizes.sum()), float(low), float(high), len(parts))
