"""evaluate_backbones: all suites over chains; `summary`: the numbers of those that are cheap."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from atomsml.generative.core.metrics import Follow, Metric, SuiteResult, fraction
from atomsml.generative.proteins.backbones import Chain
from atomsml.generative.proteins.metrics.clashes import clashes
from atomsml.generative.proteins.metrics.geometry import geometry
from atomsml.generative.proteins.metrics.radius_of_gyration import compactness
from atomsml.generative.proteins.metrics.ramachandran import ramachandran
from atomsml.generative.proteins.metrics.secondary_structure import secondary_structure
from atomsml.generative.proteins.metrics.tm_score import Reference, tm_score

SUITES: dict[str, Callable[[Sequence[Chain]], SuiteResult]] = {  # all but TM-scores, which take long
    "geometry": geometry,
    "clashes": clashes,
    "ramachandran": ramachandran,
    "secondary_structure": secondary_structure,
    "radius_of_gyration": compactness,
}
SUMMARY = (  # suite and metric
    ("geometry", "ca_ca"),
    ("geometry", "mirror_images"),
    ("clashes", "ca"),
    ("clashes", "atoms"),
    ("ramachandran", "outliers"),
    ("secondary_structure", "helix"),
    ("secondary_structure", "strand"),
    ("radius_of_gyration", "ratio"),
    ("radius_of_gyration", "within"),
)


NOT_FINITE = "not finite"  # what is wrong with a chain with a coordinate that is no number


@dataclass(frozen=True)
class Evaluation:
    """What all suites found: about the finite chains, but `failures` and `columns`, which have an entry for each."""

    finite: Metric  # share of chains whose coordinates are all numbers
    suites: dict[str, SuiteResult]
    failures: tuple[str, ...]  # of each chain: what is wrong with it, "" if nothing is
    columns: dict[str, tuple[float, ...]]  # of each chain, NaN where it has none
    reference: Reference | None

    def to_json(self) -> dict[str, Any]:
        """Without what is said of each chain."""
        return {
            "chains": self.finite.of,
            "finite": self.finite.to_json(),
            "reference": None if self.reference is None else self.reference.to_json(),
            "suites": {name: suite.to_json() for name, suite in self.suites.items()},
        }


def evaluate_backbones(
    chains: Sequence[Chain], reference: Reference | None = None, tm: bool = True, follow: Follow | None = None
) -> Evaluation:
    """Run all suites over chains; TM-scores among them and to a reference unless `tm` is False.

    What the chains of a reference have themselves stands beside it, but for TM-scores, which would take long.

    Chains with a coordinate that is not a number are counted and named, and no suite sees them.

    Raises:
        ValueError: no chain, or none that is finite.
        ModuleNotFoundError: tmtools is not installed, and `tm`.
    """
    finite = np.array([bool(np.isfinite(chain.coordinates).all()) for chain in chains], bool)
    if not finite.any():
        raise ValueError("there are no chains to evaluate" if not len(chains) else "no chain has finite coordinates")
    known = [chains[i] for i in np.flatnonzero(finite).tolist()]
    suites = {name: suite(known) for name, suite in SUITES.items()}
    if reference is not None:
        for name, suite in SUITES.items():
            suites[name] = dataclasses.replace(suites[name], reference=suite(reference.chains).metrics)
    if tm:
        suites["tm_score"] = tm_score(known, reference, follow)
    reasons = [NOT_FINITE] * len(chains)
    columns = {"residues": np.array([len(chain) for chain in chains], float)}
    for row, place in enumerate(np.flatnonzero(finite).tolist()):
        found = (result.failures[row] for result in suites.values() if result.failures)
        reasons[place] = "; ".join(filter(None, found))
    for result in suites.values():
        for name, values in result.columns.items():
            columns[name] = np.full(len(chains), np.nan)
            columns[name][finite] = values
    return Evaluation(
        fraction(int(finite.sum()), len(chains)),
        suites,
        tuple(reasons),
        {name: tuple(values.tolist()) for name, values in columns.items()},
        reference,
    )


def summary(chains: Sequence[Chain]) -> dict[str, float]:
    """A few numbers that take no time, such as for the summary of a training run, without those that no chain has.

    `finite` is the share of chains whose coordinates are all numbers; the others are about those alone.
    """
    known = [chain for chain in chains if np.isfinite(chain.coordinates).all()]
    suites = {name: SUITES[name](known) for name in dict.fromkeys(suite for suite, _ in SUMMARY)}
    values = {f"{suite}_{metric}": suites[suite].metrics[metric].value for suite, metric in SUMMARY}
    values["finite"] = fraction(len(known), len(chains)).value
    return {name: value for name, value in values.items() if math.isfinite(value)}
