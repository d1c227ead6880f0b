"""Force error on a validation set against time: `atomsml train` beside `mace_run_train`, on the same cores.

    python -m benchmarks.accuracy.time_to_accuracy DATA -o FOLDER [--minutes 10] [--only 3BPA] [--peer PYTHON] [--docs]

Two sets: 3BPA at 300 K (molecules; energies and forces), and silicon of the mlearn set (crystals; stress as well), each
divided into a training and a validation file that both programs read. Both train MACE with 64x0e + 64x1o features, two
layers, lmax 3, correlation 3, radial network [64, 64, 64], 8 Bessel functions and a cutoff of 5 A, in float32, on
batches of 5, and evaluate their averaged weights after every epoch.

The programs take turns on the same cores: one is stopped (SIGSTOP) while the other runs, and the clock of each counts
its own turns only, from the start of its process, imports and set-up included. Turns are shorter than what else happens
on a machine, so that a slow minute hits both; running them side by side on a core each would let them fight for memory
bandwidth. Since half of the time is the other's, atomsml is given twice the minutes: its learning rate follows the
clock on the wall. It is told a little less than the budget, of which the start takes a part.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import ase.io
import numpy as np
from ase.data import atomic_numbers

from benchmarks.shared.reporting import (
    DOCS,
    energies_of_atoms,
    given_references,
    label_log_ticks,
    processor,
    read_frames,
    replace_section,
    table,
)

BATCH = 5
TURN = 10.0  # seconds
POLL = 0.2  # seconds between two looks at what a program has written
TRAINED = 0.95  # fraction of the budget for the training itself; the start takes the rest
MARKS = (1, 2, 3, 4, 5, 6, 8, 10)
SECTION = "time to accuracy"
PICTURE = "time_to_accuracy.png"


@dataclass(frozen=True)
class Case:
    """A set, and what the peer is told about it."""

    name: str
    file: str  # below DATA
    isolated_atoms: str | None  # likewise
    held_out: int  # structures of the validation set
    peer: tuple[str, ...]


CASES = (
    # loss, weights and averaging of the published 3BPA models (https://github.com/ACEsuit/mace/issues/57)
    Case(
        "3BPA",
        "molecules_ff/3bpa/train_300K.extxyz.xz",
        "molecules_ff/3bpa/iso_atoms.extxyz.xz",
        50,
        ("--loss=weighted", "--energy_weight=1", "--forces_weight=100"),
    ),
    # loss and weights of the published MACE-MP-0 (Batatia et al., arXiv:2401.00096)
    Case(
        "silicon",
        "materials_ff/mlearn/Si_train.extxyz.xz",
        None,
        24,
        (
            "--loss=universal",
            "--energy_weight=1",
            "--forces_weight=10",
            "--stress_weight=100",
            "--compute_stress=True",
            "--error_table=PerAtomRMSEstressvirials",
            "--stress_key=REF_stress",
        ),
    ),
)


@dataclass
class Racer:
    """A program that trains in a process group of its own, and the time for which it was let run."""

    name: Literal["atomsml", "mace-torch"]
    command: list[str]
    folder: Path
    process: subprocess.Popen[bytes] | None = None
    active: float = 0.0  # seconds
    curve: list[dict[str, float]] = field(default_factory=list)  # minutes, step, forces_rmse in meV/A

    @property
    def finished(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def take_turn(self, seconds: float) -> None:
        """Run for so long, or to the end of the program, and note every evaluation when it appears.

        Raises:
            ValueError: the program failed.
        """
        if self.process is None:
            self.process = self._start()
        else:
            os.killpg(self.process.pid, signal.SIGCONT)
        began = time.monotonic()
        while time.monotonic() - began < seconds and not self.finished:
            time.sleep(POLL)
            self._note(self.active + time.monotonic() - began)
        if not self.finished:
            os.killpg(self.process.pid, signal.SIGSTOP)
        elif self.process.returncode != 0:
            raise ValueError(f"{self.name} failed; see {self.folder / 'output.txt'}")
        self.active += time.monotonic() - began

    def end(self) -> None:
        if self.process is not None and not self.finished:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}  # for old files in packages of the peer
        with (self.folder / "output.txt").open("wb") as output:
            return subprocess.Popen(
                self.command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )

    def _note(self, active: float) -> None:
        rows = self.evaluations()
        self.curve += [{"minutes": active / 60, **row} for row in rows[len(self.curve) :]]

    def evaluations(self) -> list[dict[str, float]]:
        """The evaluations of trained weights that the program has written down by now."""
        if self.name == "atomsml":
            rows = read_lines(self.folder / "run" / "metrics.jsonl")
            return [{"step": row["step"], "forces_rmse": row["forces_rmse"]} for row in rows]
        found: list[dict[str, float]] = []
        steps = 0
        for path in (self.folder / "results").glob("*_train.txt"):
            for row in read_lines(path):
                steps += row["mode"] == "opt"
                if row["mode"] == "eval" and row["epoch"] is not None:
                    found.append({"step": steps, "forces_rmse": 1000 * row["rmse_f"]})
        return found


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The complete lines of a JSON lines file that may still grow, or not exist yet."""
    if not path.exists():
        return []
    complete, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
    return [json.loads(line) for line in complete.splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="new or empty")
    parser.add_argument("--minutes", type=float, default=10.0, help="for each program on each set")
    parser.add_argument("--peer", default=".venv-peers/bin/python", metavar="PYTHON", help="that has mace-torch")
    parser.add_argument("--threads", type=int, default=2, help="cores, and threads of each program")
    parser.add_argument("--only", choices=[case.name for case in CASES], help="one set alone")
    parser.add_argument("--docs", action="store_true", help="put the results into docs/ as well")
    arguments = parser.parse_args()
    if arguments.output.exists() and any(arguments.output.iterdir()):
        parser.error(f"{arguments.output} is not empty")
    cores = sorted(os.sched_getaffinity(0))[: arguments.threads]
    os.sched_setaffinity(0, cores)  # the programs inherit this, and the environment
    os.environ["OMP_NUM_THREADS"] = str(len(cores))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # or the program that waits would wait for ever
    results = {case.name: compete(case, arguments) for case in CASES if arguments.only in (None, case.name)}
    text = report(results, len(cores), arguments)
    (arguments.output / "table.md").write_text(text, encoding="utf-8")
    (arguments.output / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    draw(results, arguments.output / PICTURE)
    print(text)
    if arguments.docs:
        replace_section(DOCS / "accuracy.md", SECTION, text)
        (DOCS / "images").mkdir(exist_ok=True)
        (DOCS / "images" / PICTURE).write_bytes((arguments.output / PICTURE).read_bytes())


def compete(case: Case, arguments: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """The curves of both programs."""
    folder = arguments.output / case.name
    write_files(case, arguments.data, folder)
    racers = [
        Racer("atomsml", our_command(case, folder, arguments), folder / "atomsml"),
        Racer("mace-torch", peer_command(case, folder, arguments), folder / "mace-torch"),
    ]
    for racer in racers:
        racer.folder.mkdir()
    try:
        while running := [x for x in racers if not x.finished and x.active < 60 * arguments.minutes]:
            for racer in running:
                racer.take_turn(min(TURN, 60 * arguments.minutes - racer.active))
                last = f"{racer.curve[-1]['forces_rmse']:.1f} meV/A" if racer.curve else "no evaluation yet"
                print(f"{case.name}: {racer.name:10s} {racer.active / 60:5.2f} min, {last}", flush=True)
    finally:
        for racer in racers:
            racer.end()
    return {racer.name: racer.curve for racer in racers}


def write_files(case: Case, data: Path, folder: Path) -> None:
    """Write train.extxyz and valid.extxyz."""
    folder.mkdir(parents=True)
    images = read_frames(data / case.file)
    order = np.random.default_rng(0).permutation(len(images))
    for name, indices in (("valid", order[: case.held_out]), ("train", order[case.held_out :])):
        ase.io.write(folder / f"{name}.extxyz", [images[i] for i in indices])


def our_command(case: Case, folder: Path, arguments: argparse.Namespace) -> list[str]:
    return [
        *(sys.executable, "-m", "atomsml.cli", "train"),
        f"--train={folder / 'train.extxyz'}",
        f"--valid={folder / 'valid.extxyz'}",
        "--size=medium",
        f"--set=batch.structures={BATCH}",
        "--set=evaluate_epochs=1",
        f"--max-minutes={2 * TRAINED * arguments.minutes}",
        *given_references(arguments.data / case.isolated_atoms if case.isolated_atoms else None),
        "--device=cpu",
        f"--output={folder / 'atomsml' / 'run'}",
    ]


def peer_command(case: Case, folder: Path, arguments: argparse.Namespace) -> list[str]:
    references = energies_of_atoms(arguments.data / case.isolated_atoms) if case.isolated_atoms else {}
    numbered = {atomic_numbers[symbol]: energy for symbol, energy in references.items()}
    return [
        *(arguments.peer, "-m", "mace.cli.run_train", "--name=peer", f"--work_dir={folder / 'mace-torch'}"),
        f"--train_file={folder / 'train.extxyz'}",
        f"--valid_file={folder / 'valid.extxyz'}",
        f"--E0s={numbered or 'average'}",
        *("--energy_key=REF_energy", "--forces_key=REF_forces"),
        *("--model=MACE", "--hidden_irreps=64x0e + 64x1o", "--num_interactions=2", "--max_ell=3", "--correlation=3"),
        *("--radial_MLP=[64, 64, 64]", "--num_radial_basis=8", "--r_max=5.0"),
        *(f"--batch_size={BATCH}", "--lr=0.01", "--amsgrad", "--ema", "--ema_decay=0.99", "--weight_decay=5e-7"),
        *("--scheduler=ReduceLROnPlateau", "--lr_factor=0.8", "--scheduler_patience=50"),
        *("--max_num_epochs=100000", "--eval_interval=1", "--default_dtype=float32", "--device=cpu", "--plot=False"),
        *case.peer,
    ]


def report(results: dict[str, dict[str, list[dict[str, float]]]], threads: int, arguments: argparse.Namespace) -> str:
    marks = [mark for mark in MARKS if mark <= arguments.minutes] or [arguments.minutes]
    rows = []
    for case, curves in results.items():
        for name, curve in curves.items():
            errors = [best_at(curve, mark) for mark in marks]
            rows.append([f"{case}, {name}", *errors, milliseconds_per_step(curve)])
    return "\n".join(
        [
            f"{processor()}, {threads} threads for each program, {arguments.minutes:g} minutes for each on each set; "
            f"atomsml {version('atomsml')}, torch {version('torch')}.\n",
            "Lowest root mean square force error on the validation set so far, meV/A:\n",
            table(["", *(f"{mark:g} min" for mark in marks), "ms per step"], rows),
            f"A step has {BATCH} structures; its time holds the share of one evaluation for each epoch.\n",
            f"![force error on the validation set against minutes](images/{PICTURE})\n",
        ]
    )


def best_at(curve: Sequence[dict[str, float]], minutes: float) -> str:
    errors = [row["forces_rmse"] for row in curve if row["minutes"] <= minutes]
    return f"{min(errors):.1f}" if errors else "none yet"


def milliseconds_per_step(curve: Sequence[dict[str, float]]) -> str:
    """Between the first and the last evaluation, so that start and compilation do not count."""
    if len(curve) < 2:
        return ""
    seconds = 60 * (curve[-1]["minutes"] - curve[0]["minutes"])
    return f"{1000 * seconds / (curve[-1]['step'] - curve[0]['step']):.0f}"


def draw(results: dict[str, dict[str, list[dict[str, float]]]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(results), figsize=(9, 4), layout="constrained", squeeze=False)
    for axis, (case, curves) in zip(axes[0], results.items(), strict=True):
        for name, curve in curves.items():
            minutes, errors = [row["minutes"] for row in curve], [row["forces_rmse"] for row in curve]
            axis.plot(minutes, errors, marker=".", markersize=4, linewidth=1.2, label=name)
        axis.set(title=case, yscale="log", xlabel="minutes", ylabel="force RMSE, validation set, meV/A")
        label_log_ticks(axis.yaxis)
        axis.set_xlim(left=0)
        axis.grid(alpha=0.3, which="both")
        axis.legend()
    figure.savefig(path, dpi=100)
    plt.close(figure)


if __name__ == "__main__":
    main()
