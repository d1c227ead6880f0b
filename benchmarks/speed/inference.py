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
from dataclasses import asdict
from pathlib import Path

from benchmarks.shared.model_files import write_models
from benchmarks.shared.race import Settings
from benchmarks.shared.reporting import DOCS, README, SPEED, machine, replace_row, replace_section, table
from benchmarks.speed.inference_parts import PARTS, Section


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="for models and results")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), help="all but gpu, unless told otherwise")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--max-atoms", type=int, default=64_000)
    parser.add_argument("--max-peer-atoms", type=int, default=4096, help="mace-torch needs 10 times the memory")
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
    )
    for name in arguments.only or [name for name in PARTS if name != "gpu"]:
        section = PARTS[name](settings)
        section = Section(f"{machine()}.\n\n{section.text}", section.highlights)
        (arguments.output / f"{name}.json").write_text(json.dumps(asdict(section), indent=1), encoding="utf-8")
    found = {name: arguments.output / f"{name}.json" for name in PARTS}
    sections = {n: Section(**json.loads(f.read_text(encoding="utf-8"))) for n, f in found.items() if f.exists()}
    report(sections, arguments.output / "report.md", arguments.docs)


def report(sections: dict[str, Section], path: Path, docs: bool) -> None:
    text = "\n".join(f"## {name}\n\n{section.text}" for name, section in sections.items())
    highlights = [line for section in sections.values() for line in section.highlights]
    summary = table(["work", "atomsml", "peer", "ratio"], highlights)
    path.write_text(f"{text}\n## README\n\n{summary}", encoding="utf-8")
    print(path.read_text(encoding="utf-8"))
    if docs:
        for name, section in sections.items():
            replace_section(DOCS / "speed.md", name, section.text)
        for row in highlights:
            replace_row(README, SPEED, [*row, "`speed.inference`"])


if __name__ == "__main__":
    main()
