"""Feed damaged files to the commands: `python -m tests.fuzz --count 2000`.

Input `index` of a `--seed` is always the same: `--index` repeats one and prints what the command said.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: a process with threads cannot be forked

import torch

from atomsml.cli.main import main as cli
from tests.fuzz.children import Ended, run
from tests.fuzz.mutators import mutate
from tests.fuzz.seeds import Kind, make_kinds
from tests.fuzz.verdicts import judge

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "build" / "fuzz"  # damaged files whose treatment is a defect


@dataclass
class Row:
    """What became of the inputs of one kind."""

    counts: dict[str, int] = field(default_factory=lambda: {"fine": 0, "refused": 0, "defect": 0})
    memory: int = 0
    seconds: float = 0.0

    def add(self, verdict: str, ended: Ended) -> None:
        self.counts[verdict] += 1
        self.memory = max(self.memory, ended.memory)
        self.seconds = max(self.seconds, ended.seconds)


class Harness:
    """Damages files of all kinds in turn, and runs the commands on them."""

    def __init__(self, folder: Path, seed: int, only: list[str]) -> None:
        self.folder, self.seed = folder, seed
        kinds = make_kinds(folder)
        self.kinds = {name: kind for name, kind in kinds.items() if not only or name in only}
        self.rows = {name: Row() for name in self.kinds}
        self._warm()

    def _warm(self) -> None:
        """Every command must accept the sound file; what it compiles and imports here, children need not."""
        for name, kind in self.kinds.items():
            for command in kind.commands:
                with tempfile.TemporaryDirectory(dir=self.folder) as work:
                    words, _ = self._prepared(kind, command, kind.content, Path(work))
                    said = io.StringIO()
                    with contextlib.chdir(work), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                        try:
                            cli(words)
                        except SystemExit as stop:
                            if stop.code:
                                raise SystemExit(f"{name} is refused by {command}: {stop.code}") from None

    def run(self, kind: Kind, command: str, content: bytes) -> tuple[Ended, str]:
        """One command on one content; returns how it ended and the name of the file."""
        with tempfile.TemporaryDirectory(dir=self.folder) as work:
            words, name = self._prepared(kind, command, content, Path(work))
            return run(words, Path(work)), name

    def _prepared(self, kind: Kind, command: str, content: bytes, work: Path) -> tuple[list[str], str]:
        """Words of a command whose files are in `work`, and the name of the damaged one."""
        name = f"input{kind.suffix}"
        (work / name).write_bytes(content)
        shutil.copy(self.folder / "data.extxyz", work)
        values = {"INPUT": name, "MODEL": str(self.folder / "model.safetensors")}
        words = [values.get(word, word).replace(":_", ": ").replace(",_", ", ") for word in command.split()]
        return words, name

    def one(self, index: int) -> tuple[str, str, str, str, Ended, bytes]:
        """(kind, command, verdict, why, how it ended, the damaged file) of one input."""
        rng = Random(f"{self.seed} {index}")
        name = list(self.kinds)[index % len(self.kinds)]
        kind = self.kinds[name]
        content, command = mutate(kind.suffix, kind.content, rng), rng.choice(kind.commands)
        ended, file = self.run(kind, command, content)
        verdict, why = judge(ended, file, content)
        self.rows[name].add(verdict, ended)
        return name, command, verdict, why, ended, content

    def table(self) -> Iterator[str]:
        yield f"{'kind':18} {'inputs':>7} {'fine':>6} {'refused':>8} {'defects':>8} {'MB':>6} {'s':>6}"
        for name, row in self.rows.items():
            fine, refused, defects = row.counts.values()
            total = fine + refused + defects
            yield f"{name:18} {total:7} {fine:6} {refused:8} {defects:8} {row.memory / 1e6:6.0f} {row.seconds:6.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Feed damaged files to the commands.")
    parser.add_argument("--count", type=int, default=2000, help="how many inputs [2000]")
    parser.add_argument("--seconds", type=float, help="stop after this time, whatever the count")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="of the damages [any]")
    parser.add_argument("--index", type=int, help="repeat one input of a seed, and print what the command says")
    parser.add_argument(
        "--kind", action="append", default=[], help="only this kind; may be repeated, and counts for --index"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"seed {arguments.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="fuzz") as folder:
        harness = Harness(Path(folder), arguments.seed, arguments.kind)
        if arguments.index is not None:
            name, command, verdict, why, ended, content = harness.one(arguments.index)
            (KEPT / "one").mkdir(parents=True, exist_ok=True)
            file = KEPT / "one" / f"input{harness.kinds[name].suffix}"
            file.write_bytes(content)
            print(f"{name}: {command}, {file}\n{verdict}: {why}\n{ended}\n{ended.err}")
            return
        _all(harness, arguments.count, arguments.seconds)


def _all(harness: Harness, count: int, seconds: float | None) -> None:
    started, defects = time.monotonic(), 0
    for index in range(count if seconds is None else sys.maxsize):
        if seconds is not None and time.monotonic() - started > seconds:
            break
        name, command, verdict, why, _, content = harness.one(index)
        if verdict == "defect":
            defects += 1
            KEPT.mkdir(parents=True, exist_ok=True)
            (KEPT / f"{harness.seed}-{index}{harness.kinds[name].suffix}").write_bytes(content)
            print(f"--seed {harness.seed} --index {index}: {name}: {command}: {why[:300]}", flush=True)
    print("\n".join(harness.table()))
    raise SystemExit(f"{defects} defects; the files are in {KEPT}" if defects else 0)


if __name__ == "__main__":
    main()
