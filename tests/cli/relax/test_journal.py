"""--resume: relaxations of many that were killed or interrupted go on to what one run gives."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase.build import molecule

from tests.cli.test_kills import begin, ended

Run = Callable[..., Any]

SAME = 1e-7  # eV, eV/A, A: batches round differently by 1e-13, which the steps amplify

OLDER = re.compile(r"\.(previous|interrupted)-\d+\.")  # what runs that ended early had published


@pytest.fixture
def many(run: Run) -> str:
    frames = []
    for i in range(30):
        atoms = molecule("CH3CH2OH" if i % 2 else "CH3OH")
        atoms.rattle(0.05, seed=i)
        frames.append(atoms)
    ase.io.write("many.extxyz", frames)
    return "many.extxyz"


def assert_alike(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    exact = ("file", "index", "formula", "converged", "reason", "steps", "bonding")
    for mine, other in zip(ours, theirs, strict=True):
        assert [mine[key] for key in exact] == [other[key] for key in exact]
        assert mine["output"].removeprefix("a/") == other["output"].removeprefix("b/")
        assert mine["energy"] == pytest.approx(other["energy"], abs=SAME)
        np.testing.assert_allclose(mine["forces"], other["forces"], atol=SAME)


def killed(words: list[str], journal: Path, more: int, number: int) -> tuple[int, str]:
    """Run, and kill when the journal has so many lines more."""
    enough = lines(journal) + more
    child = begin(words, Path())
    deadline = time.monotonic() + 60
    while lines(journal) < enough and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(child, number)
    return ended(child, Path())


def lines(journal: Path) -> int:
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
@pytest.mark.parametrize("output", ["a/relaxed.extxyz", "a/"])
def test_a_run_that_was_killed_goes_on(run: Run, many: str, output: str, number: int) -> None:
    """To the same files with the same structures as one that was left alone."""
    words = ["relax", many, "-m", "organic-xtb", "--fmax", "0.01", "--precision", "float64"]
    whole = run(*words, "-o", output.replace("a/", "b/"), "--json")
    words += ["-o", output, "--resume"]
    journal = Path("a") / ("relaxed.journal.jsonl" if output.endswith("z") else "relax.journal.jsonl")
    for _ in range(2):
        status, said = killed(words, journal, 4, number)
        assert status == {signal.SIGKILL: -9, signal.SIGTERM: 143}[number], said
        if number == signal.SIGTERM:
            assert f"--resume goes on by {journal}" in said
        with journal.open("ab") as file:
            file.write(b'{"number": 59, "rec')  # torn off
    resumed = run(*words, "--json")
    assert resumed.status == whole.status
    assert_alike(json.loads(resumed.out), json.loads(whole.out))
    kept = {path.name for path in Path("a").iterdir() if not OLDER.search(path.name)}
    assert kept == {path.name for path in Path("b").iterdir()}
    for name in kept - {path.name for path in Path("b").glob("relax*.[cs]*")}:
        for ours, theirs in zip(ase.io.iread(f"a/{name}"), ase.io.iread(f"b/{name}"), strict=True):
            np.testing.assert_allclose(ours.positions, theirs.positions, atol=SAME)
    summary = json.loads(journal.with_name(journal.name.replace("journal.jsonl", "summary.json")).read_text())
    assert (summary["structures"], summary["interrupted"]) == (30, False)
    again = run(*words)
    assert (again.status, again.out) == (resumed.status, "")
    assert "nothing is left to do: the run is complete" in again.err


def test_only_the_same_run_goes_on(run: Run, model: str, many: str) -> None:
    words = ["relax", many, "-m", model, "--steps", "20", "--fmax", "0.01"]
    journal = Path("relaxed.journal.jsonl")
    assert killed(words, journal, 3, signal.SIGKILL)[0] == -9
    before = journal.read_bytes()
    for changed, difference in (
        ([*words, "--fmax", "0.02"], "with --fmax 0.01, not with --fmax 0.02"),
        ([*words, "--fix", "O"], "without --fix, not with --fix O"),
        ([*words, "-m", "universal-small"], "with another model"),
        ([*words, "O"], "with other inputs"),
    ):
        result = run(*changed, "--resume")
        assert (result.status, result.out) == (1, "")
        assert result.err.splitlines()[-1].startswith(f"error: relaxed.journal.jsonl is of a run {difference}")
        assert journal.read_bytes() == before
    frames = ase.io.read(many, ":")
    frames[-1].positions[0, 0] += 1e-3
    ase.io.write(many, frames)
    assert "inputs that were changed since" in run(*words, "--resume").err


def test_a_new_run_keeps_what_an_old_one_had(run: Run, model: str, many: str) -> None:
    words = ["relax", many, "-m", model, "--steps", "1"]
    journal = Path("relaxed.journal.jsonl")
    assert killed(words, journal, 3, signal.SIGTERM)[0] == 143
    before = journal.read_bytes()
    result = run(*words)
    assert "begins anew; what the interrupted run had done is in relaxed.journal.previous-1.jsonl" in result.err
    assert Path("relaxed.journal.previous-1.jsonl").read_bytes() == before
    assert not journal.exists()
    assert len(ase.io.read("relaxed.extxyz", ":")) == 30


def test_nothing_to_resume_is_a_beginning(run: Run, model: str) -> None:
    result = run("relax", "O", "-m", model, "--steps", 1, "--resume")
    assert "note: there is nothing to resume; begins anew" in result.err
    assert Path("relaxed.extxyz").exists()
