"""Every architecture side by side: trained for the same minutes on the same sets, then tested and timed.

    python -m benchmarks.accuracy.architectures DATA -o FOLDER [--minutes 4 | --steps N] [--jobs 2] [--docs]
        [--only ethanol,aspirin,nbmotaw] [--models mace,facet] [--sizes small,medium,0.5]

DATA has the folders molecules_ff and materials_ff. A training is `atomsml train` with the defaults of an architecture
and of the program, one thread, on a core of its own; everything but the architecture is the same for all: structures,
batches, loss, learning rate, validation set, seed, minutes. A size that is a number is the size small with so many
times its channels; more than one size shows how errors depend on the number of weights. Beside each architecture whose
default is a variant of ours stands the network of its paper, as NAME-paper.

FOLDER keeps what is finished: a run that is done is not repeated, one that was stopped is gone on with, one that failed
begins anew, and the tables have all that FOLDER holds. So more architectures, sizes and sets may follow later with the
same minutes. FOLDER/table.md has the tables, results.json the numbers, architectures.png error against cost and size;
--docs also puts tables and picture into docs/architectures.md.

Costs are measured once the trainings are over, in turns: see architecture_costs.py.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from atomsml.potentials import POTENTIALS
from atomsml.potentials.nequip import NEQUIP
from benchmarks.accuracy.architecture_costs import measure_costs, write_structures
from benchmarks.accuracy.architecture_tables import PICTURE, draw, report
from benchmarks.shared.reporting import DOCS, replace_section

HELD_OUT = 50  # structures of the training set that choose the best weights
SECTION = "side by side"
STOPPED = "stopped at step"  # what `atomsml train` says when it is asked to end


@dataclass(frozen=True)
class Case:
    """A published set, divided as published."""

    name: str
    title: str
    train: tuple[str, ...]  # below DATA
    test: tuple[str, ...]
    crystals: bool

    def files(self, data: Path, names: Iterable[str]) -> list[Path]:
        return [data / f"{name}.extxyz.xz" for name in names]


def rmd17(molecule: str) -> Case:
    """Split 01 of Christensen and von Lilienfeld, Mach. Learn.: Sci. Technol. 1, 045018 (2020)."""
    train, test = (f"molecules_ff/rmd17/{molecule}_{part}_01" for part in ("train", "test"))
    return Case(molecule, f"rMD17 {molecule}", (train,), (test,), crystals=False)


def nbmotaw() -> Case:
    """Elements and binaries of Li et al., npj Comput. Mater. 6, 70 (2020); the test sets are of elements."""
    elements, binaries = ("Nb", "Mo", "Ta", "W"), ("NbMo", "NbTa", "NbW", "MoTa", "MoW", "TaW")
    folder = "materials_ff/nbmotaw"
    train = tuple(f"{folder}/{name}_train" for name in (*elements, *binaries))
    return Case("nbmotaw", "NbMoTaW", train, tuple(f"{folder}/{name}_test" for name in elements), crystals=True)


CASES = {case.name: case for case in (rmd17("ethanol"), rmd17("aspirin"), nbmotaw())}

# rows of the tables: each architecture as it is by default, and where that is a variant the network of its paper
PAPERS: dict[str, dict[str, Any]] = {
    "escn": {"paper": True},
    "nequip": {**NEQUIP, "parity": True},
    "facet": {"pointwise": "mlp", "grid": [18, 17]},
    "egnn": {"paper": True},
    "equiformer_v2": {"paper": True},
}
ROWS: dict[str, tuple[str, dict[str, Any]]] = {}
for model in POTENTIALS:
    ROWS[model] = (model, {})
    if model in PAPERS:
        ROWS[f"{model}-paper"] = (model, PAPERS[model])


@dataclass(frozen=True)
class Training:
    """One run of `atomsml train`, in a folder of its own."""

    case: Case
    row: str  # of ROWS
    size: str  # of the architecture, or a factor of the channels of the size small
    folder: Path

    @property
    def done(self) -> bool:
        return (self.folder / "summary.json").exists()

    @property
    def failure(self) -> Path:
        """Where the reason of a failure is kept."""
        return self.folder.with_name(f"{self.folder.name}.failure.txt")

    def arguments(self, data: Path, minutes: float, steps: int | None) -> list[str]:
        limit = f"--max-minutes={minutes}" if steps is None else f"--max-steps={steps}"
        if (self.folder / "checkpoint.safetensors").exists():
            return ["train", "--resume", limit, f"--output={self.folder}"]
        test = [str(path) for path in self.case.files(data, self.case.test)]
        model, options = ROWS[self.row]
        return [
            "train",
            *(f"--train={path}" for path in self.case.files(data, self.case.train)),
            f"--set=data.test={json.dumps(test)}",
            f"--valid={HELD_OUT}",
            f"--model={model}",
            *size_options(model, self.size),
            *(f"--set=model_options.{name}={json.dumps(value)}" for name, value in options.items()),
            limit,
            "--set=checkpoint_minutes=0.5",
            "--device=cpu",
            "--seed=0",
            f"--output={self.folder}",
        ]


def size_options(model: str, size: str) -> list[str]:
    """What tells `atomsml train` the size: by its name, or channels of all kinds times a factor."""
    try:
        factor = float(size)
    except ValueError:
        return [f"--size={size}"]
    architecture = POTENTIALS[model]
    small = architecture.Config(elements=(1,), **architecture.sizes["small"])
    options = ["--size=small"]
    for field in fields(small):
        if field.name.endswith("channels"):
            value = getattr(small, field.name)
            scaled = [round(factor * n) for n in value] if isinstance(value, tuple) else round(factor * value)
            options.append(f"--set=model_options.{field.name}={json.dumps(scaled)}")
    return options


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--minutes", type=float, default=4.0, help="of each training")
    parser.add_argument("--steps", type=int, help="of each training, instead of minutes")
    parser.add_argument("--only", type=names, default=list(CASES), metavar="SETS", help=", ".join(CASES))
    parser.add_argument("--models", type=names, default=list(ROWS), help=", ".join(ROWS))
    parser.add_argument("--sizes", type=names, default=["small"], help="names, or factors of the channels of small")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at the same time, each on a core of its own")
    parser.add_argument("--docs", action="store_true", help="put the results into docs/ as well")
    arguments = parser.parse_args()
    for option, known in (("only", CASES), ("models", ROWS)):
        if unknown := set(getattr(arguments, option)) - set(known):
            parser.error(f"--{option} takes {', '.join(known)}; got {', '.join(sorted(unknown))}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # after the trainings that are under way
    cases = [CASES[name] for name in arguments.only]
    train_all(cases, arguments)
    for case in cases:
        measure(case, arguments)
    results = {c.title: found for c in CASES.values() if (found := read_results(arguments.output / c.name))}
    text = report(results)
    (arguments.output / "table.md").write_text(text, encoding="utf-8")
    (arguments.output / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    draw(results, arguments.output / PICTURE)
    print(text)
    if arguments.docs:
        replace_section(DOCS / "architectures.md", SECTION, text)
        shutil.copyfile(arguments.output / PICTURE, DOCS / "images" / PICTURE)


def names(text: str) -> list[str]:
    return text.split(",")


def train_all(cases: Sequence[Case], arguments: argparse.Namespace) -> None:
    """Carry out the trainings that are not done, `--jobs` at a time, each pinned to a core."""
    trainings = [
        Training(case, row, size, arguments.output / case.name / f"{row}-{size}")
        for case in cases
        for row in arguments.models
        for size in arguments.sizes
    ]
    cores: SimpleQueue[int] = SimpleQueue()
    for core in sorted(os.sched_getaffinity(0))[: arguments.jobs]:
        cores.put(core)

    def carry_out(training: Training) -> None:
        core = cores.get()
        train(training, core, arguments)
        cores.put(core)

    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(carry_out, [training for training in trainings if not training.done]))


def train(training: Training, core: int, arguments: argparse.Namespace) -> None:
    """Train and test; the reason of a failure goes to a file."""
    name = f"{training.case.name}, {training.folder.name}"
    if training.failure.exists():
        training.failure.unlink()
        shutil.rmtree(training.folder, ignore_errors=True)
    training.folder.parent.mkdir(parents=True, exist_ok=True)
    budget = f"{arguments.minutes:g} minutes" if arguments.steps is None else f"{arguments.steps} steps"
    print(f"{name}: training for {budget} on core {core}", flush=True)
    options = training.arguments(arguments.data, arguments.minutes, arguments.steps)
    command = [sys.executable, "-m", "atomsml.cli", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(["taskset", "-c", str(core), *command], env=environment, capture_output=True, text=True)
    reason = (ended.stderr.strip().splitlines() or [f"exit status {ended.returncode}"])[-1].removeprefix("error: ")
    if ended.returncode != 0 and not reason.startswith(STOPPED):
        training.failure.write_text(reason + "\n", encoding="utf-8")
    print(f"{name}: {'done' if training.done else reason}", flush=True)


def measure(case: Case, arguments: argparse.Namespace) -> None:
    """Costs of all finished models of a set, unless they were measured together before."""
    folder = arguments.output / case.name
    models = {path.parent.name: path.with_name("model.safetensors") for path in sorted(folder.glob("*/summary.json"))}
    costs = folder / "costs.json"
    if not models or (costs.exists() and set(read_json(costs)) == set(models)):
        return
    write_structures(case.files(arguments.data, case.test)[0], case.crystals, folder)
    found = measure_costs(models, folder)
    costs.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def read_results(folder: Path) -> dict[str, dict[str, Any]]:
    """By "row-size": what training and measurement left, or the reason of a failure."""
    costs = read_json(folder / "costs.json") if (folder / "costs.json").exists() else {}
    rows: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("*.failure.txt")):
        rows[path.name.removesuffix(".failure.txt")] = {"failure": path.read_text(encoding="utf-8").strip()}
    for path in sorted(folder.glob("*/summary.json")):
        summary = read_json(path)
        kept = {key: summary[key] for key in ("parameters", "minutes", "steps", "epochs", "versions")}
        row = {**kept, "errors": summary["errors"]["all"], **costs.get(path.parent.name, {})}
        rows[path.parent.name] = row
    order = list(ROWS)
    return dict(sorted(rows.items(), key=lambda item: (order.index(item[0].rpartition("-")[0]), sort_key(item[1]))))


def sort_key(row: dict[str, Any]) -> int:
    """Sizes of an architecture by their numbers of weights."""
    weights: int = row.get("parameters", 0)
    return weights


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
