"""report.html: all that a run found out, in one file that needs no network, no scripts, and no other file.

Config types, file names and keys come from the data of strangers: every text passes through `html.escape`, and the page
forbids the browser to load or run anything.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from atomsml.io import write_atomically
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
        _headline(facts),
        _section("Warnings", _list(facts.warnings)) if facts.warnings else "",
        _section(f"Errors on the {facts.judged_on} set", _table(*format_table(facts.errors))),
        _section("Force errors by element", _table(*format_table(facts.errors_by_element, "element"))),
        _section("Learning curves", _image(curves, "losses, errors and learning rate against time")),
        _section("Predictions and labels", _image(parity, "predicted against labelled values, and their differences")),
        _section("Data", _table(*_columns(facts.data))),
        _section(f"Reference energies: {facts.references_kind}", _table(["element", "eV"], references)),
        _section("Run", _pairs(facts.run)),
        _section("Versions", _pairs(facts.versions)),
        _section("Config", f"<pre>{escape(facts.config)}</pre>"),
    ]
    return _PAGE.format(title=escape(facts.title), style=_STYLE, body="\n".join(sections))


def _headline(facts: ReportFacts) -> str:
    """The errors over all structures, large."""
    errors = facts.errors["all"]
    cards = [
        (f"{quantity} {kind.upper()}", errors[f"{key}_{kind}"], unit)
        for quantity, key, unit in (
            ("Energy", "energy", "meV/atom"),
            ("Force", "forces", "meV/Å"),
            ("Stress", "stress", "meV/Å³"),
        )
        for kind in ("mae", "rmse")
        if f"{key}_{kind}" in errors
    ]
    shown = "".join(
        f'<div class="card"><b>{value:,.4g}</b> {escape(unit)}<br>{escape(name)}</div>' for name, value, unit in cards
    )
    count = f"{errors['structures']:,.0f} structures of the {facts.judged_on} set"
    return f'<h1>{escape(facts.title)}</h1><p>{escape(count)}</p><div class="cards">{shown}</div>'


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>"


def _list(texts: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(text)}</li>" for text in texts) + "</ul>"


def _image(path: Path, description: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return f'<img alt="{escape(description)}" src="data:image/png;base64,{data}">'


def _pairs(values: Mapping[str, Any]) -> str:
    rows = (f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>" for name, value in values.items())
    return f'<div class="wide"><table class="pairs">{"".join(rows)}</table></div>'


def _columns(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and cells of rows that need not all have the same keys."""
    header = list(dict.fromkeys(name for row in rows for name in row))
    return header, [[_shown(row.get(name)) for name in header] for row in rows]


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The first column holds names, the others stand to the right."""
    if not rows:
        return "<p>none</p>"
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


_STYLE = """
:root { color-scheme: light dark; --line: #8886; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
.cards { display: flex; flex-wrap: wrap; gap: .75rem; }
.card { border: 1px solid var(--line); border-radius: .4rem; padding: .5rem .9rem; }
.card b { font-size: 1.5rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .7rem; border-bottom: 1px solid var(--line); text-align: right; }
th:first-child, td:first-child, .pairs td { text-align: left; }
.pairs th { font-weight: normal; }
img { max-width: 100%; background: white; border-radius: .4rem; }
pre { overflow-x: auto; padding: .7rem; border: 1px solid var(--line); border-radius: .4rem; }
"""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""
