"""--report FILE: a page of a run, to look at in a browser: what came out in three dimensions, tables, and settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from atomsml.io import OutputSet
    from atomsml.report import Fragment

ReportOption = Annotated[
    Path | None, typer.Option("--report", help="Write a page to look at in a browser, .html: tables, and a view in 3D.")
]


def check_report(path: Path | None) -> None:
    """Where there is to be a page, refuse the file of a page before the work rather than after it.

    Raises:
        ValueError: a suffix other than .html.
        OSError: the path cannot be written.
    """
    from atomsml.cli.output import check_writable

    if path is None:
        return
    check_writable(path)
    if path.suffix.lower() != ".html":
        raise ValueError(f"cannot write the report {path}; use the suffix .html")


def write_report(files: OutputSet, path: Path, title: str, parts: Sequence[Fragment], summary: dict[str, Any]) -> None:
    """Write a page with its own parts first and, of the summary of the run, what is needed to repeat it last.

    Raises:
        OSError: the path cannot be written.
    """
    from atomsml.report import heading, page, pairs, section

    options = {name.replace("_", " "): _said(value) for name, value in summary["options"].items()}
    model = summary["model"]
    run = {
        "command": f"atomsml {summary['command']}",
        "inputs": _said(summary["inputs"]),
        "model": f"{model['name']}, sha256 {_said(model['sha256'])}",
        "device": summary["device"],
        "wall time": f"{summary['wall_time_s']:,.1f} s",
        "outputs": _said(summary["outputs"]),
    }
    stopped = "This run was interrupted: it holds what was finished." if summary["interrupted"] else ""
    whole = [
        heading(title, stopped),
        *parts,
        section("Run", pairs({name: value for name, value in run.items() if value})),
        section("Settings", pairs({name: value for name, value in options.items() if value})),
        section("Versions", pairs(summary["versions"])),
    ]
    text = page(title, whole)
    files.write(path, lambda beside: beside.write_text(text, encoding="utf-8", errors="replace"))


def _said(value: Any) -> str:
    """Of what was not given, nothing."""
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
