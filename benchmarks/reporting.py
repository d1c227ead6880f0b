"""What the benchmarks of training share: reading published sets, and tables with their places in docs/accuracy.md."""

from __future__ import annotations

import io
import json
import lzma
import platform
from collections.abc import Sequence
from pathlib import Path

import ase.io
from ase import Atoms

DOCS = Path(__file__).parents[1] / "docs"


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


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown, the first column to the left and the others to the right."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def replace_section(name: str, text: str) -> None:
    """Put a text between the two comments `<!-- name: begin -->` and `<!-- name: end -->` of docs/accuracy.md."""
    page = DOCS / "accuracy.md"
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, _, rest = page.read_text(encoding="utf-8").partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"{page} lacks the lines {begin} and {end}")
    page.write_text(f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}", encoding="utf-8")
