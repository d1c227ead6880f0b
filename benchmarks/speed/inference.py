"""Speed of the MACE of atomsml beside mace-torch: the same weights on the same structures, in turn.

    python -m benchmarks.speed.inference -o FOLDER [--only "single calls" sizes ...] [--docs]

`make peers` makes the environment of mace-torch where it is missing. mace-torch saves models with random weights,
atomsml converts them, and the two take turns, each in processes of its own. What a part found is kept in FOLDER, so
that parts can be measured one at a time; FOLDER/report.md has all of them, and `--docs` puts them into docs/speed.md
and the README. A GPU is measured by `--only gpu`.

Times are medians of wall time, with the smallest and the largest in brackets. Neighbour lists are made beforehand,
except in molecular dynamics, which includes everything.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks.shared.peers import ROOT, peer_python, versions
from benchmarks.shared.race import Settings
from benchmarks.shared.reporting import DOCS, processor, replace_section, table
from benchmarks.shared.workloads import MODELS
from benchmarks.speed.inference_parts import PARTS, Section

IN_README = "speed"  # name of the section


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="for models and results")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), help="all but gpu, unless told otherwise")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--max-atoms", type=int, default=64_000)
    parser.add_argument("--max-peer-atoms", type=int, default=4096, help="mace-torch needs 10 times the memory")
    parser.add_argument("--compiled", action="store_true", help="also mace-torch through torch.compile, a minute each")
    parser.add_argument("--docs", action="store_true", help="put what FOLDER has into docs/speed.md and the README")
    arguments = parser.parse_args()
    models = arguments.output / "models"
    write_models(models)
    settings = Settings(
        models,
        arguments.repeats,
        arguments.threads,
        arguments.max_atoms,
        arguments.max_peer_atoms,
        arguments.compiled,
    )
    for name in arguments.only or [name for name in PARTS if name != "gpu"]:
        section = PARTS[name](settings)
        section = Section(f"{machine()}.\n\n{section.text}", section.highlights)
        (arguments.output / f"{name}.json").write_text(json.dumps(asdict(section), indent=1), encoding="utf-8")
    found = {name: arguments.output / f"{name}.json" for name in PARTS}
    sections = {n: Section(**json.loads(f.read_text(encoding="utf-8"))) for n, f in found.items() if f.exists()}
    report(sections, arguments.output / "report.md", arguments.docs)


def write_models(folder: Path) -> None:
    """Let mace-torch save the models of workloads.py."""
    folder.mkdir(parents=True, exist_ok=True)
    if all((folder / model.file).exists() for model in MODELS):
        return
    environment = {**os.environ, "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}
    command = [peer_python(), "-W", "ignore", "-m", "benchmarks.shared.peer_mace", folder]
    subprocess.run(command, env=environment, check=True)


def machine() -> str:
    """Hardware and versions, in one line."""
    ours = versions(Path(sys.executable), ("atomsml", "torch", "llvmlite"))
    theirs = versions(peer_python(), ("mace-torch", "e3nn", "torch"))
    python = f"Python {platform.python_version()}"
    return f"{processor()}, {os.cpu_count()} cores, {python}; {ours}; beside {theirs}"


def report(sections: dict[str, Section], path: Path, docs: bool) -> None:
    text = "\n".join(f"## {name}\n\n{section.text}" for name, section in sections.items())
    highlights = [line for section in sections.values() for line in section.highlights]
    summary = f"{machine()}, one thread.\n\n" + table(["work", "atomsml", "mace-torch", "ratio"], highlights)
    path.write_text(f"{text}\n## README\n\n{summary}", encoding="utf-8")
    print(path.read_text(encoding="utf-8"))
    if docs:
        for name, section in sections.items():
            replace_section(DOCS / "speed.md", name, section.text)
        if highlights:
            replace_section(ROOT / "README.md", IN_README, summary)


if __name__ == "__main__":
    main()
