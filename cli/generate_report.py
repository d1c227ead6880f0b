"""What `atomsml generate` says about the molecules that it has written."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from atomsml.cli.generate_records import Generated
from atomsml.cli.generate_run import Run


def make_report(kept: Sequence[Generated], run: Run) -> dict[str, Any]:
    """The JSON object: how many were drawn, at what cost, and how good those that were kept are."""
    from atomsml.generative.metrics.strict import strict

    strains = [molecule.strain for molecule in kept if molecule.strain is not None]
    suite = strict([molecule.atoms for molecule in kept], [molecule.perceived for molecule in kept])
    return {
        "command": "generate molecules",
        "drawn": run.drawn,
        "left_out": len(run.failed),
        "written": len(kept),
        "sampler": run.settings.sampler,
        "steps": run.settings.steps,
        "evaluations_per_molecule": {name: round(n / run.drawn, 3) for name, n in run.evaluations.items()},
        "median_strain_kcal_mol": round(statistics.median(strains), 3) if strains else None,
        "metrics": {"strict": suite.to_json()},
    }


def print_report(report: dict[str, Any], as_json: bool) -> None:
    from atomsml.cli.output import number, print_json, print_table

    if as_json:
        print_json(report)
        return
    rows = [[name.replace("_", " "), str(report[name]), "", ""] for name in ("drawn", "left_out", "written")]
    for name, metric in report["metrics"]["strict"]["metrics"].items():
        rows.append([name, *(number(metric[key], 3) for key in ("value", "low", "high"))])
    if report["median_strain_kcal_mol"] is not None:
        rows.append(["median strain, kcal/mol", number(report["median_strain_kcal_mol"], 2), "", ""])
    print_table(["", "value", "95 % from", "to"], rows)
