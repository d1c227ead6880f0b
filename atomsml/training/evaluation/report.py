"""report.html: all that a run found out, in one file that needs no network, no scripts, and no other file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atomsml.io import write_atomically
from atomsml.report import Fragment, bullets, cards, heading, image, page, pairs, preformatted, section, table
from atomsml.training.evaluation.metrics import Collected, Table, format_table
from atomsml.training.evaluation.plots import learning_curves, parity_plot


@dataclass(frozen=True)
class ReportFacts:
    """What a report tells; tables are lists of rows, each with the same keys."""

    title: str
    judged_on: str  # the set of `errors` and `collected`: "test", or "validation" where there is no test set
    metrics: Sequence[Mapping[str, Any]]  # lines of metrics.jsonl
    errors: Table  # ErrorTable.table()
    errors_by_element: Table  # ErrorTable.by_element()
    collected: Collected
    data: Sequence[Mapping[str, Any]]  # one row for each file or set: its name, structures, and number of labels
    references: Mapping[str, float]  # element symbol -> eV
    references_kind: str  # "isolated atoms", "least squares", ...
    run: Mapping[str, Any]  # model, parameters, wall time, seed, device, hash of the model, ...
    versions: Mapping[str, str]  # package -> version
    config: str  # YAML
    warnings: Sequence[str]  # raised while the run went on


def write_report(folder: Path, facts: ReportFacts) -> None:
    """Write learning_curves.png, parity.png, and report.html, which holds both, to `folder`.

    Raises:
        OSError: the folder cannot be written.
    """
    learning_curves(facts.metrics, folder / "learning_curves.png")
    parity_plot(facts.collected, folder / "parity.png")
    text = _page(facts, folder / "learning_curves.png", folder / "parity.png")
    write_atomically(folder / "report.html", lambda beside: beside.write_text(text, encoding="utf-8", errors="replace"))


def _page(facts: ReportFacts, curves: Path, parity: Path) -> str:
    references = [[symbol, f"{energy:.6f}"] for symbol, energy in facts.references.items()]
    sections = [
        *_headline(facts),
        *([section("Warnings", bullets(facts.warnings))] if facts.warnings else []),
        section(f"Errors on the {facts.judged_on} set", table(*format_table(facts.errors))),
        section("Force errors by element", table(*format_table(facts.errors_by_element, "element"))),
        section("Learning curves", image(curves, "losses, errors and learning rate against time")),
        section("Predictions and labels", image(parity, "predicted against labelled values, and their differences")),
        section("Data", table(*_columns(facts.data))),
        section(f"Reference energies: {facts.references_kind}", table(["element", "eV"], references)),
        section("Run", pairs(facts.run)),
        section("Versions", pairs(facts.versions)),
        section("Config", preformatted(facts.config)),
    ]
    return page(facts.title, sections)


def _headline(facts: ReportFacts) -> list[Fragment]:
    """The errors over all structures, large."""
    errors = facts.errors["all"]
    count = f"{errors['structures']:,.0f} structures of the {facts.judged_on} set"
    shown = [
        (f"{errors[f'{key}_{kind}']:,.4g}", unit, f"{quantity} {kind.upper()}")
        for quantity, key, unit in (
            ("Energy", "energy", "meV/atom"),
            ("Force", "forces", "meV/Å"),
            ("Stress", "stress", "meV/Å³"),
            ("Charge", "charges", "e"),
            ("Dipole", "dipole", "e Å"),
            ("Quadrupole", "quadrupole", "e Å²"),
        )
        for kind in ("mae", "rmse")
        if f"{key}_{kind}" in errors
    ]
    return [heading(facts.title, count), cards(shown)]


def _columns(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and cells of rows that need not all have the same keys."""
    header = list(dict.fromkeys(name for row in rows for name in row))
    return header, [[_shown(row.get(name)) for name in header] for row in rows]


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else str(value)
