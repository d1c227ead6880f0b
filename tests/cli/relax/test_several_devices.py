"""`atomsml relax --device cpu,cpu`: two processes relax what one does; one that dies costs only what it was at."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase.build import molecule

from tests.cli.md.test_several_devices import LINUX, children, lives, wait_for
from tests.cli.test_kills import STATUS, begin, ended

Run = Callable[..., Any]


@LINUX
def test_two_processes_relax_what_one_does_and_go_on(run: Run) -> None:
    names, frames = ("CH3CH2OH", "C6H6", "CH3CHO", "C3H8", "H2CO", "isobutane"), []
    for i in range(60):
        frames.append(molecule(names[i % 6]))
        frames[-1].rattle(0.05, seed=i)
    ase.io.write("many.extxyz", frames)
    words = ["relax", "many.extxyz", "-m", "organic-xtb", "--precision", "float64", "--shard", "1/2", "--fmax", "0.001"]
    child = begin([*words, "-o", "two.extxyz", "--device", "cpu,cpu"], Path())
    journal = Path("two-1-of-2.journal.jsonl")
    wait_for(lambda: len(children(child)) == 2, child)
    os.kill(children(child)[1], signal.SIGKILL)  # while it starts: it has its first part, and nothing of it is done
    status, said = ended(child, Path())
    assert status == 1
    (error,) = [line for line in said.splitlines() if line.startswith("error")]
    assert error.startswith("error: the process on cpu was killed by SIGKILL")
    lost = json.loads(Path("two-1-of-2.summary.json").read_text())["failed"]
    assert 0 < len(lost) <= 60 / 2 / (4 * 2) + 1  # of what one had taken
    done = 30 - len(lost)
    assert f"{done} of 30 structures are in two-1-of-2.extxyz; --resume goes on by {journal}" in error
    assert all(each["refused"].startswith("not done: the process on cpu was killed") for each in lost)
    result = run(*words, "-o", "two.extxyz", "--device", "cpu,cpu", "--resume", "--json")
    assert result.status == 0
    alone = run(*words, "-o", "one.extxyz", "--json")
    for ours, theirs in zip(json.loads(result.out), json.loads(alone.out), strict=True):
        assert (ours["index"], ours["steps"]) == (theirs["index"], theirs["steps"])
        assert ours["energy"] == pytest.approx(theirs["energy"], abs=1e-9)
    for ours, theirs in zip(*(ase.io.read(f"{name}-1-of-2.extxyz", ":") for name in ("two", "one")), strict=True):
        np.testing.assert_allclose(ours.positions, theirs.positions, atol=1e-7)
    assert json.loads(Path("two-1-of-2.summary.json").read_text())["device"] == "cpu,cpu"


@LINUX
@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_processes_end_with_the_command_that_began_them(run: Run, number: int) -> None:
    """However it ends; what they had found goes on."""
    frames = [molecule("isobutane") for _ in range(24)]
    for i, atoms in enumerate(frames):
        atoms.rattle(0.05, seed=i)
    ase.io.write("many.extxyz", frames)
    words = ["relax", "many.extxyz", "-m", "organic-xtb", "--precision", "float64", "--fmax", "0.001"]
    child = begin([*words, "-o", "two.extxyz", "--device", "cpu,cpu"], Path())
    journal = Path("two.journal.jsonl")
    wait_for(lambda: journal.exists() and len(journal.read_bytes().splitlines()) > 2, child)
    processes = children(child)
    assert len(processes) >= 2
    os.kill(child, number)
    status, said = ended(child, Path())
    assert status == STATUS[number], said
    wait_for(lambda: not any(map(lives, processes)))
    result = run(*words, "-o", "two.extxyz", "--device", "cpu,cpu", "--resume", "--json")
    assert result.status == 0
    assert [record["index"] for record in json.loads(result.out)] == list(range(24))
    assert len(ase.io.read("two.extxyz", ":")) == 24


def test_steps_are_written_on_one_device(run: Run, model: str) -> None:
    result = run("relax", "O", "-m", model, "--device", "cpu,cpu", "--trajectory", "steps.extxyz")
    assert result.status == 1
    assert result.err.startswith("error: --trajectory is written on one device, got --device cpu,cpu")
