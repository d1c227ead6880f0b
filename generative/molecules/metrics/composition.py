"""Suite `composition`: whether functional groups, rings, sizes and elements occur as often as in a reference.

Of the features (`groups`: functional groups, kinds of rings, charges) the shares of the molecules that have each are
compared, p among ours and q in the reference, as a factor exp |ln (p / q)|, which is 1 where they agree and 1.5 where a
feature is half as frequent again, or two thirds as frequent. Only features that are frequent in the reference count.
Histograms (of functional groups, sizes of rings, rings and heavy atoms in a molecule, elements of heavy atoms) are
compared by their total variation, which is the share that would have to move,

    V = 1/2 sum_k |P_k - Q_k|,

and `distance` is its mean over the histograms. Noise is a distance too: beside each distance stands that of a random
sample of the reference, of as many molecules as are judged.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from atomsml.generative.core.metrics import (
    NORMAL_QUANTILE,
    Metric,
    SuiteResult,
    bootstrap,
    fraction,
)
from atomsml.generative.molecules.metrics.groups import FEATURES, GROUPS, HISTOGRAMS, features, histogram

if TYPE_CHECKING:
    from rdkit.Chem import Mol

VERSION = "composition-1"
FREQUENT = 0.02  # share of the reference's molecules that makes a feature frequent
EMBEDDED = ("qm9-xtb",)  # references that come with atomsml, each a file of profiles/
HALVINGS = 100  # of the reference, whose halves say how far chance takes it from itself
TABLES: Mapping[str, Sequence[str]] = {"features": FEATURES, "groups": tuple(GROUPS), **HISTOGRAMS}
UNITS = {"mean_factor": "times", "worst_factor": "times"}

Counts = Mapping[str, np.ndarray]  # by the names of TABLES, (..., kinds): how many there are of each kind


@dataclass(frozen=True)
class Profile:
    """How often a set of molecules has everything that is compared."""

    molecules: int
    counts: Counts
    noise: Mapping[str, tuple[float, float, float]]  # of each distance between halves: mean, 2.5 and 97.5 %; as logs

    def to_json(self) -> dict[str, Any]:
        """Without what does not occur."""
        counts = {
            name: {kind: int(n) for kind, n in zip(TABLES[name], row.tolist(), strict=True) if n}
            for name, row in self.counts.items()
        }
        noise = {name: [round(value, 5) for value in values] for name, values in self.noise.items()}
        return {"molecules": self.molecules, "counts": counts, "noise": noise}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Profile:
        """What `to_json` made."""
        counts = {
            name: np.array([found["counts"][name].get(kind, 0) for kind in kinds]) for name, kinds in TABLES.items()
        }
        noise = {name: (float(mean), float(low), float(high)) for name, (mean, low, high) in found["noise"].items()}
        return cls(found["molecules"], counts, noise)


def profile(mols: Sequence[Mol]) -> Profile:
    """Of sanitised molecules, as a reference to compare with."""
    tables, number = _tables(mols), len(mols)
    whole, half = {name: table.sum(axis=0) for name, table in tables.items()}, number // 2
    noise = dict[str, tuple[float, float, float]]()
    if half:
        rng = np.random.default_rng(0)
        orders = [rng.permutation(number) for _ in range(HALVINGS)]
        halves = {
            name: np.stack([table[order[:half]].sum(axis=0) for order in orders]) for name, table in tables.items()
        }
        others = {name: whole[name] - halves[name] for name in tables}
        frequent = _frequent(whole, number)
        for name, values in _distances(halves, half, others, number - half, frequent).items():
            low, high = np.quantile(values, (0.025, 0.975))
            noise[name] = float(values.mean()), float(low), float(high)
    return Profile(number, whole, noise)


def embedded_profile(name: str) -> Profile:
    """One of EMBEDDED, which benchmarks/recipes/make_profile.py made."""
    return Profile.from_json(
        json.loads((Path(__file__).parent / "profiles" / f"{name}.json").read_text(encoding="utf-8"))
    )


def composition(mols: Sequence[Mol], reference: Profile | None = None) -> SuiteResult:
    """The suite, over sanitised molecules; without a reference it holds shares alone.

    `types` are the shares of the molecules that have each feature, and of rings, molecules or heavy atoms that are of
    each kind. `SuiteResult.reference` has those of the reference, and the distances that a sample of it has.
    """
    tables, number = _tables(mols), len(mols)
    ours = {name: table.sum(axis=0) for name, table in tables.items()}
    drawn = _drawn(tables, number)
    metrics, beside = dict[str, Metric](), dict[str, Metric]()
    if reference is not None:
        theirs, frequent = reference.counts, _frequent(reference.counts, reference.molecules)
        values = _distances(ours, number, theirs, reference.molecules, frequent)
        draws = _distances(drawn, number, theirs, reference.molecules, frequent)
        for name, value in values.items():
            spread = NORMAL_QUANTILE * float(np.std(draws[name]))  # percentiles lie too high: noise adds to noise
            metrics[name] = _metric(name, float(value), max(float(value) - spread, 0.0), float(value) + spread, number)
        beside = _noise(reference, number) | _shares(theirs, reference.molecules)
    types = _shares(ours, number, drawn)
    return SuiteResult(
        version=VERSION,
        thresholds={"share that makes a feature frequent": FREQUENT, "groups": dict(GROUPS)},
        metrics=metrics,
        failures=(),  # no molecule fails for what it is
        types=types,
        reference=beside,
    )


def factor(share: Metric, reference: Metric) -> float:
    """How many times the smaller of two shares of molecules the greater is, with half a molecule more on both sides."""
    p, q = ((metric.value * metric.of + 0.5) / (metric.of + 1) for metric in (share, reference))
    return max(p / q, q / p)


def _tables(mols: Sequence[Mol]) -> Counts:
    """(molecules, kinds) each."""
    found = features(mols).astype(np.int64)
    return {
        "features": found,
        "groups": found[:, : len(GROUPS)],
        **{name: histogram(name, mols) for name in HISTOGRAMS},
    }


def _drawn(tables: Counts, number: int) -> Counts:
    """(resamples, kinds) each, of molecules that are drawn with replacement."""
    ends = np.cumsum([table.shape[1] for table in tables.values()])[:-1]
    matrix = np.concatenate(list(tables.values()), axis=1).astype(float)
    draws = bootstrap(lambda times: times @ matrix, number) if number else np.full((1, matrix.shape[1]), np.nan)
    return dict(zip(tables, np.split(draws, ends, axis=1), strict=True))


def _frequent(counts: Counts, molecules: int) -> np.ndarray:
    """(features,) which of them the reference has often."""
    return counts["features"] >= FREQUENT * max(molecules, 1)


def _distances(ours: Counts, number: int, theirs: Counts, molecules: int, frequent: np.ndarray) -> Counts:
    """Each distance by its name, factors as logarithms; (...) of the leading axes of the counts."""
    variations = {}
    for name in list(TABLES)[1:]:
        p, q = (counts[name] / np.maximum(counts[name].sum(axis=-1, keepdims=True), 1) for counts in (ours, theirs))
        variations[f"{name.replace(' ', '_')}_distance"] = np.abs(p - q).sum(axis=-1) / 2
    # half a molecule more on both sides, so that nothing is never
    p, q = (ours["features"] + 0.5) / (number + 1), (theirs["features"] + 0.5) / (molecules + 1)
    logs = np.abs(np.log(p / q))[..., frequent]
    if not frequent.any():
        logs = np.full((*logs.shape[:-1], 1), np.nan)
    mean = np.mean(list(variations.values()), axis=0)
    return {"distance": mean, **variations, "mean_factor": logs.mean(axis=-1), "worst_factor": logs.max(axis=-1)}


def _noise(reference: Profile, number: int) -> dict[str, Metric]:
    """The distances of `number` molecules of the reference from all: the noise of halves, which falls as 1/sqrt(n)."""
    if number == 0:
        return {}
    scale = math.sqrt((1 / number + 1 / reference.molecules) * reference.molecules / 4)
    return {
        name: _metric(name, scale * mean, scale * low, scale * high, number)
        for name, (mean, low, high) in reference.noise.items()
    }


def _metric(name: str, value: float, low: float, high: float, number: int) -> Metric:
    """A share as it is, and a factor from its logarithm."""
    if name not in UNITS:
        return Metric(value, low, high, number)
    return Metric(math.exp(value), math.exp(low), math.exp(high), number, UNITS[name])


def _shares(counts: Counts, molecules: int, drawn: Counts | None = None) -> dict[str, Metric]:
    """Of the features by their names, and of the kinds of HISTOGRAMS as `elements: C`, for which `drawn` says how sure.

    What does not occur is left out of the latter.
    """
    found = {name: fraction(int(n), molecules) for name, n in zip(FEATURES, counts["features"], strict=True)}
    for table, kinds in HISTOGRAMS.items():
        total = int(counts[table].sum())
        for place, kind in enumerate(kinds):
            if counts[table][place]:
                low = high = math.nan
                if drawn is not None:
                    draws = drawn[table][:, place] / np.maximum(drawn[table].sum(axis=1), 1)
                    low, high = np.quantile(draws, (0.025, 0.975)).tolist()
                found[f"{table}: {kind}"] = Metric(counts[table][place] / total, low, high, total)
    return found
