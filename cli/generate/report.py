"""What `atomsml generate` says about the molecules that it has written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from atomsml.cli.generate.records import Generated
from atomsml.cli.generate.run import Run

COUNTS = ("drawn", "left_out", "written")


def make_report(kept: Sequence[Generated], run: Run) -> dict[str, Any]:
    """The JSON object: how many were drawn, at what cost, and how good those that were kept are."""
    import numpy as np

    from atomsml.generative.molecules.metrics.edm import edm
    from atomsml.generative.molecules.metrics.results import quantile
    from atomsml.generative.molecules.metrics.strict import strict

    images = [molecule.atoms for molecule in kept]
    suites = {"edm": edm(images), "strict": strict(images, [molecule.perceived for molecule in kept])}
    strains = np.array([molecule.strain for molecule in kept if molecule.strain is not None])
    strain = {"median_strain": quantile(strains, 0.5, "kcal/mol").to_json()} if len(strains) else {}
    return {
        "command": "generate molecules",
        "drawn": run.drawn,
        "left_out": len(run.failed),
        "written": len(kept),
        "sampler": run.settings.sampler,
        "steps": run.settings.steps,
        "evaluations_per_molecule": {name: round(n / run.drawn, 3) for name, n in run.evaluations.items()},
        "suites": {name: suite.to_json() for name, suite in suites.items()},
        **strain,
    }


def print_report(report: dict[str, Any], as_json: bool) -> None:
    from atomsml.cli.output import print_json, print_table

    if as_json:
        print_json(report)
        return
    rows = [[name.replace("_", " "), str(report[name]), "", "", "molecules"] for name in COUNTS]
    found = {name: metric for suite in report["suites"].values() for name, metric in suite["metrics"].items()}
    if "median_strain" in report:
        found["median_strain"] = report["median_strain"]
    rows += [[name.replace("_", " "), *_cells(metric)] for name, metric in found.items()]
    print_table(["", "value", "from", "to", "unit"], rows)


def _cells(metric: dict[str, Any]) -> list[str]:
    """Fractions in per cent."""
    from atomsml.cli.output import number

    factor = 1 if metric["unit"] else 100
    values = (None if metric[key] is None else factor * metric[key] for key in ("value", "low", "high"))
    return [*(number(value, 2) for value in values), metric["unit"] or "%"]
