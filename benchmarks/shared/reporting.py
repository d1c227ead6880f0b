"""What benchmarks share: reading published sets, and tables with their places in the documentation."""

from __future__ import annotations

import io
import json
import lzma
import math
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ase.io
from ase import Atoms

from benchmarks.shared.peers import ROOT, peer_python, versions

DOCS = ROOT / "docs"
README = ROOT / "README.md"
SPEED = "speed"  # its section: a row for each kind of work, with the module of benchmarks/ that measures it


def read_frames(path: Path) -> list[Atoms]:
    """Structures of an .extxyz.xz file, which ASE alone reads slowly."""
    text = lzma.decompress(path.read_bytes()).decode()
    return list(ase.io.iread(io.StringIO(text), format="extxyz"))


def energies_of_atoms(path: Path) -> dict[str, float]:
    """Symbol and energy, eV, of each isolated atom in a file."""
    return {atom.get_chemical_formula(): float(atom.info["REF_energy"]) for atom in read_frames(path)}


def given_references(isolated_atoms: Path | None) -> list[str]:
    """What tells `atomsml train` to count energies from these atoms; nothing where there is no file of them."""
    if isolated_atoms is None:
        return []
    return ["--references=given", f"--set=reference_energies={json.dumps(energies_of_atoms(isolated_atoms))}"]


def processor() -> str:
    """The model of the CPU."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), platform.processor())


def machine() -> str:
    """Hardware and versions, also those of mace-torch, in one line."""
    ours = versions(Path(sys.executable), ("atomsml", "torch", "llvmlite"))
    theirs = versions(peer_python(), ("mace-torch", "e3nn", "torch"))
    python = f"Python {platform.python_version()}"
    return f"{processor()}, {os.cpu_count()} cores, {python}; {ours}; beside {theirs}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown, the first column to the left and the others to the right."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def three_digits(value: float) -> str:
    """Three significant digits, or all that stand before the point."""
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}" if value > 0 else "0"


def spread(values: Sequence[float]) -> str:
    """Median, and the smallest and the largest in brackets."""
    return f"{three_digits(statistics.median(values))} ({three_digits(min(values))}-{three_digits(max(values))})"


def label_log_ticks(axis: Any) -> None:
    """Numbers at 1, 2, 5 of each decade of a logarithmic axis of matplotlib; a range below a decade has several too."""
    from matplotlib.ticker import FixedLocator

    low, high = axis.get_view_interval()
    steps = (1, 2, 5) if high > 6 * low else (1, 1.5, 2, 3, 4, 5, 6, 8)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    axis.set_major_locator(FixedLocator([step * 10.0**decade for decade in decades for step in steps]))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter("")


def replace_section(page: Path, name: str, text: str) -> None:
    """Put a text between the two comments `<!-- name: begin -->` and `<!-- name: end -->` of a page."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, _, rest = page.read_text(encoding="utf-8").partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"{page} lacks the lines {begin} and {end}")
    page.write_text(f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}", encoding="utf-8")


def replace_row(page: Path, name: str, cells: Sequence[str]) -> None:
    """Put a row into the table of a section of a page, in place of the row with the same first cell if it has one."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    section = page.read_text(encoding="utf-8").partition(begin)[2].partition(end)[0].strip()
    row = "| " + " | ".join(cells) + " |"
    lines = section.splitlines()
    places = [i for i, line in enumerate(lines) if line.startswith(f"| {cells[0]} |")]
    if places:
        lines[places[0]] = row
    else:
        lines.append(row)
    replace_section(page, name, "\n".join(lines))
