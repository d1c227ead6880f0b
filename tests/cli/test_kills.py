"""Runs that are killed at random moments over older results: nothing older is lost, nothing mixed, all is readable.

The slow test prints a table with `pytest -m slow -s`; the quick one tries a few of its cases.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import ase.io
import pytest
from ase.build import molecule
from safetensors.numpy import load_file

from atomsml.cli.main import main
from atomsml.dataset import read_dataset
from atomsml.io import read

KILLS = 20
STATUS = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}


@dataclass(frozen=True)
class Case:
    """A command that is killed, and a short run of it whose results are older."""

    old: list[str]
    long: list[str]
    seconds: float  # within which the kill comes


def cases(model: str) -> dict[str, Case]:
    """Commands in a folder with data.extxyz and many.extxyz."""
    md = ["md", "-m", model, "--interval", "2", "-o", "o.extxyz"]
    relax = ["relax", "-m", model, "--steps", "5", "-o", "o.extxyz"]
    generate = ["generate", "molecules", "--steps", "3", "--batch", "2", "-o", "o.sdf"]
    build = ["data", "build", "-o", "o.h5"]
    train = [
        "train",
        "--model",
        "egnn",
        "--train",
        "data.extxyz",
        "--valid",
        "4",
        "-o",
        "run",
        "--set",
        "evaluate_epochs=1",
    ]
    return {
        "md": Case([*md, "CCO", "--steps", "4"], [*md, "CC=O", "--steps", "4000"], 4),
        "relax": Case([*relax, "data.extxyz"], [*relax, "many.extxyz"], 4),
        "generate": Case([*generate, "-n", "2"], [*generate, "-n", "400", "--seed", "1"], 4),
        "data build": Case([*build, "data.extxyz"], [*build, "large.extxyz"], 1),
        "train": Case([*train, "--max-steps", "1"], [*train, "--max-steps", "150"], 3),
    }


def run_and_kill(words: list[str], folder: Path, number: int | None = None, after: float = 0) -> tuple[int, str]:
    """Status and stderr of a command."""
    child = begin(words, folder)
    if number is not None:
        time.sleep(after)
        os.kill(child, number)
    return ended(child, folder)


def begin(words: list[str], folder: Path) -> int:
    """A command in a fork of this process, which has imported everything already."""
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        sys.stderr, sys.stdout = open("stderr", "w", buffering=1), open(os.devnull, "w")  # noqa: SIM115
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            main(words)
        except SystemExit as end:
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
            os._exit(end.code if isinstance(end.code, int) else int(end.code is not None))
        except BaseException:
            traceback.print_exc()
        os._exit(99)
    return child


def ended(child: int, folder: Path) -> tuple[int, str]:
    """Its status and stderr, when it has ended."""
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    text = (folder / "stderr").read_text() if (folder / "stderr").exists() else ""
    (folder / "stderr").unlink(missing_ok=True)
    return status, text


def readable(path: Path) -> bool:
    """Whether a file of results can be read as what its name says."""
    try:
        if path.suffix in (".extxyz", ".sdf"):
            return len(read([str(path)])) > 0
        if path.suffix == ".h5":
            return len(read_dataset(path)) > 0
        if path.suffix == ".json":
            return bool(json.loads(path.read_text()))
        if path.suffix == ".safetensors":
            return bool(load_file(path))
        if path.suffix == ".csv":
            rows = [line.split(",") for line in path.read_text().splitlines()]
            return rows[0][0] in ("step", "file", "index") and len({len(row) for row in rows}) == 1
    except (ValueError, OSError, IndexError):
        return False
    return True


def is_mixed(folder: Path) -> bool:
    """Whether the summary, the log and the structures beside each other are of different runs."""
    summary = folder / "o.summary.json"
    if not summary.exists():
        return False
    said = json.loads(summary.read_text())
    if said["command"] == "md":
        frames = ase.io.read(folder / "o.extxyz", ":")
        rows = (folder / "o.csv").read_text().splitlines()
        expected = {"CCO": "C2H6O", "CC=O": "C2H4O"}[said["inputs"][0]]
        return len(rows) != len(frames) + 1 or {str(f.get_chemical_formula()) for f in frames} != {expected}
    written = len(read([str(next(folder.glob("o.[es]*[zf]")))]))
    return written != said["structures"]


def hashes(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".png")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def judge(case: Case, folder: Path, number: int, after: float) -> Counter[str]:
    """One kill: what of `lost`, `mixed`, `unreadable`, `unnamed` there was; `kills` is 0 where the run had finished."""
    old = hashes(folder)
    status, said = run_and_kill(case.long, folder, number, after)
    found = Counter[str]({"kills": int(status == STATUS[number])})
    finished = status in (0, 1) and "Traceback" not in said
    if not finished and status not in (STATUS[number], -number):  # by the signal itself, before `main` began
        found["wrong status"] += 1
        print(f"status {status} after {signal.Signals(number).name}: {said}")
    if case.long[0] == "train":
        begun = (folder / "run" / "config.yaml").exists()
        return found + judge_train([*case.long, "--resume"] if begun else case.long, folder)
    now = hashes(folder)
    found["lost"] += not finished and not set(old.values()) <= set(now.values())
    found["mixed"] += is_mixed(folder)
    seen = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
    found["unreadable"] += any(not readable(path) for path in seen)
    if status == STATUS[number] and number != signal.SIGKILL:
        new = [path.name for path in seen if path.name not in old]
        found["unnamed"] += "interrupted" not in said or any(name not in said for name in new if "png" not in name)
        found["left hidden"] += any(path.name.startswith(".") for path in folder.iterdir())
    next_status, next_said = run_and_kill(case.old, folder)
    new = [path for path in folder.iterdir() if path.name not in now and path.is_file()]
    found["unreadable"] += next_status not in (0, 1) or any(not readable(path) for path in new)
    found["unnamed"] += any(path.name not in next_said for path in new if "interrupted" in path.name)
    found["left hidden"] += any(path.name.startswith(".") for path in folder.iterdir())
    return found


def judge_train(words: list[str], folder: Path) -> Counter[str]:
    """A run that is killed and resumed ends with the weights of one that was not, bit for bit."""
    status, _ = run_and_kill(words, folder)
    found = Counter[str]({"unreadable": int(status != 0)})
    if status == 0:
        whole, resumed = load_file(folder.parent / "whole.safetensors"), load_file(folder / "run" / "model.safetensors")
        found["mixed"] += any((whole[name] != resumed[name]).any() for name in whole)
        hidden = [path.name for path in (folder / "run").iterdir() if path.name.startswith(".")]
        found["left hidden"] += bool(hidden)
    return found


@pytest.fixture(scope="session")
def prepared(model: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Case, Path]]:
    """A function that makes the older results of a command, and returns the command and their folder."""
    root = tmp_path_factory.mktemp("kills")

    def prepare(name: str) -> tuple[Case, Path]:
        case, folder = cases(model)[name], root / name / "old"
        folder.mkdir(parents=True, exist_ok=True)
        frames = []
        for shift in range(12):
            atoms = molecule("CH3CH2OH" if shift % 2 else "CH3OH")
            atoms.rattle(0.02, seed=shift)
            atoms.info["REF_energy"], atoms.arrays["REF_forces"] = -float(shift), 0 * atoms.positions
            frames.append(atoms)
        ase.io.write(folder / "data.extxyz", frames, format="extxyz")
        ase.io.write(folder / "many.extxyz", frames * 60, format="extxyz")
        ase.io.write(folder / "large.extxyz", frames * 800, format="extxyz")
        if name == "train":
            status, said = run_and_kill(case.long, folder)
            assert status == 0, said
            os.replace(folder / "run" / "model.safetensors", root / name / "whole.safetensors")
            shutil.rmtree(folder / "run")
        else:
            status, said = run_and_kill(case.old, folder)
            assert status in (0, 1), said
        return case, folder

    return prepare


def kill_often(case: Case, old: Path, number: int, kills: int, seed: int) -> Counter[str]:
    """Until so many have hit a run that was going on; a quick machine has finished some before."""
    rng, found = random.Random(seed), Counter[str]()
    for i in range(3 * kills):
        if found["kills"] == kills:
            break
        folder = old.parent / f"{number}-{i}"
        shutil.copytree(old, folder)
        found += judge(case, folder, number, rng.uniform(0.1, case.seconds))
        shutil.rmtree(folder)
    return found


@pytest.mark.parametrize(
    ("name", "number"),
    [("md", signal.SIGTERM), ("relax", signal.SIGKILL), ("data build", signal.SIGINT)],
)
def test_a_kill(prepared: Callable[[str], tuple[Case, Path]], name: str, number: int) -> None:
    case, old = prepared(name)
    found = kill_often(case, old, number, kills=1, seed=7)
    assert set(+found) <= {"kills"}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("name", ["md", "relax", "generate", "train", "data build"])
def test_twenty_kills(prepared: Callable[[str], tuple[Case, Path]], name: str, number: int) -> None:
    case, old = prepared(name)
    found = kill_often(case, old, number, KILLS, seed=int(number))
    print(f"{name:12s} {signal.Signals(number).name:8s}", dict(found))
    assert +found == {"kills": KILLS}
