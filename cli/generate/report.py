"""What `atomsml generate` says about the molecules that it has written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from atomsml.cli.generate.records import Generated
from atomsml.cli.generate.run import Run

if TYPE_CHECKING:
    from atomsml.report import Fragment

COUNTS = ("drawn", "left_out", "written")
HEADER = ("", "value", "from", "to", "unit", "suite")


def make_report(kept: Sequence[Generated], run: Run) -> dict[str, Any]:
    """The JSON object: how many were drawn, at what cost, and how good those that were kept are."""
    import numpy as np

    from atomsml.generative.core.metrics import quantile
    from atomsml.generative.molecules.metrics.edm import edm
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
        "notes": run.wishes.notes(run.model),
        "evaluations_per_molecule": {name: round(n / run.drawn, 3) for name, n in run.evaluations.items()},
        "suites": {name: suite.to_json() for name, suite in suites.items()},
        **strain,
    }


def print_report(report: dict[str, Any], as_json: bool) -> None:
    from atomsml.cli.output import print_json, print_table

    if as_json:
        print_json(report)
    else:
        print_table(HEADER, _rows(report))


def page_parts(kept: Sequence[Generated], report: dict[str, Any]) -> list[Fragment]:
    """What --report shows of the molecules: each in three dimensions, and how good they are together."""
    from atomsml.report import Scene, section, table, viewer

    header = ["index", "formula", "SMILES", "valid", "strain kcal/mol"]
    scenes, rows = [], []
    for molecule in kept:
        found = molecule.properties()
        name = f"{found['index']}  {found.get('smiles', found['formula'])}"
        scenes.append(Scene(name, [molecule.atoms], [""]))
        valid = "yes" if molecule.valid else f"no: {molecule.reason}"
        cells = [found["index"], found["formula"], found.get("smiles", "-"), valid, found.get("strain_kcal_mol", "-")]
        rows.append([str(cell) for cell in cells])
    if all(molecule.strain is None for molecule in kept):
        header, rows = header[:-1], [row[:-1] for row in rows]
    return [
        section("Molecules", viewer(scenes, header, rows)),
        section("How good they are", table(HEADER, _rows(report))),
    ]


def _rows(report: dict[str, Any]) -> list[list[str]]:
    """The cells of a table of HEADER."""
    rows = [[name.replace("_", " "), str(report[name]), "", "", "molecules", ""] for name in COUNTS]
    for suite in report["suites"].values():
        for name, metric in suite["metrics"].items():
            rows.append([name.replace("_", " "), *cells(metric), suite["version"]])
    if "median_strain" in report:
        rows.append(["median strain", *cells(report["median_strain"]), ""])
    return rows


def cells(metric: dict[str, Any]) -> list[str]:
    """Value, interval and unit of a metric, for a table of HEADER; fractions in per cent."""
    from atomsml.cli.output import number

    factor = 1 if metric["unit"] else 100
    values = (None if metric[key] is None else factor * metric[key] for key in ("value", "low", "high"))
    return [*(number(value, 2) for value in values), metric["unit"] or "%"]
