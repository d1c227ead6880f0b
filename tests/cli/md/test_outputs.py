"""Runs in one HDF5 file: many structures, runs that are killed and go on, and what is held."""

from __future__ import annotations

import csv
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest

from atomsml.io.trajectory import Trajectory
from tests.cli.test_kills import begin, ended

Run = Callable[..., Any]

SHORT = ("--steps", 40, "--interval", 4, "--timestep", 0.5, "--seed", 3)


def quantities(path: str | Path) -> list[dict[str, np.ndarray]]:
    with Trajectory(path) as trajectory:
        return [{name: system.read(name) for name in trajectory.quantities} for system in trajectory.systems]


def test_many_structures_are_one_file(run: Run, model: str) -> None:
    """With one log and one plot; each moves as it does alone in a file of ASE."""
    words = ("-m", model, *SHORT, "--precision", "float64")
    result = run("md", "CO", "O", "[H][H]", *words, "-o", "all.h5", "--json")
    assert result.status == 0
    assert sorted(path.name for path in Path().iterdir()) == ["all.csv", "all.h5", "all.png", "all.summary.json"]
    records = json.loads(result.out)
    assert {(r["trajectory"], r["log"], r["plot"]) for r in records} == {("all.h5", "all.csv", "all.png")}
    with open("all.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["system"], row["step"]) for row in rows] == [(str(i), str(4 * k)) for i in range(3) for k in range(11)]
    run("md", "CO", "O", "[H][H]", *words, "-o", "each.traj")
    for number, system in enumerate(quantities("all.h5")):
        frames = ase.io.read(f"each-{number}.traj", ":")
        np.testing.assert_allclose([atoms.positions for atoms in frames], system["positions"], atol=1e-9)
        energies = [float(row["potential_eV"]) for row in rows if row["system"] == str(number)]
        np.testing.assert_allclose(energies, system["energy"], atol=1e-8)


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_killed_run_goes_on_bit_for_bit(run: Run, number: int) -> None:
    words = ["md", "CO", "O", "-m", "organic-xtb", "--steps", "1200", "--interval", "4", "--timestep", "0.5"]
    assert run(*words, "-o", "whole.h5").status == 0
    words += ["-o", "killed.h5"]
    child = begin(words, Path())
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not frames_in("killed.h5"):
        time.sleep(0.01)
    os.kill(child, number)
    status, said = ended(child, Path())
    assert status == {signal.SIGKILL: -9, signal.SIGTERM: 143}[number], said
    there = frames_in("killed.h5")
    assert 0 < there < 301
    if number == signal.SIGTERM:
        assert f"the trajectory up to step {4 * (there - 1)} is in killed.h5; --resume goes on" in said
        assert json.loads(Path("killed.summary.json").read_text())["interrupted"]
    refused = run(*words)
    assert "killed.h5 is there already; --resume goes on with the run in it" in refused.err
    result = run(*words, "--resume", "--json")
    assert result.status == 0
    assert [record["steps"] for record in json.loads(result.out)] == [1200, 1200]
    for ours, theirs in zip(quantities("killed.h5"), quantities("whole.h5"), strict=True):
        for name in theirs:
            np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    assert Path("killed.csv").read_bytes() == Path("whole.csv").read_bytes()
    assert not json.loads(Path("killed.summary.json").read_text())["interrupted"]
    assert "nothing was left to do: the run in killed.h5 is complete" in run(*words, "--resume").err


def frames_in(path: str) -> int:
    try:
        with Trajectory(path) as trajectory:
            return int(trajectory.frames[0])
    except (OSError, ValueError):
        return 0


def test_only_the_same_run_goes_on_but_may_be_longer(run: Run, model: str) -> None:
    words = ("md", "O", "-m", model, "--interval", 5, "--timestep", 0.5, "-o", "run.h5")
    run(*words, "--steps", 10)
    for changed, difference in (
        (("--temperature", 400), "with --temperature 300, not with --temperature 400"),
        (("--seed", 1), "with --seed 0, not with --seed 1"),
        (("--fix", "O"), "without --fix, not with --fix O"),
        (("CO",), "with other inputs"),
    ):
        result = run(*words, "--steps", 10, *changed, "--resume")
        assert (result.status, result.out) == (1, "")
        assert result.err.splitlines()[-1].startswith(f"error: run.h5 is of a run {difference}")
    result = run(*words, "--steps", 20, "--resume", "--json")
    assert json.loads(result.out)[0]["steps"] == 20
    run(*words[:-1], "whole.h5", "--steps", 20)
    np.testing.assert_array_equal(quantities("run.h5")[0]["positions"], quantities("whole.h5")[0]["positions"])


def test_what_explodes_is_named_and_the_others_finish(run: Run, model: str) -> None:
    close = ase.Atoms("H2", [[0, 0, 0], [0, 0, 0.05]])
    ase.io.write("close.xyz", close)
    result = run("md", "O", "close.xyz", "-m", "organic-xtb", *SHORT, "-o", "run.h5", "--json")
    assert result.status == 1
    water, hydrogen = json.loads(result.out)
    assert (water["finished"], water["steps"]) == (True, 40)
    assert not hydrogen["finished"]
    assert "error: close.xyz, frame 0: atom " in result.err
    assert "try a smaller time step" in result.err
    failed = json.loads(Path("run.summary.json").read_text())["failed"]
    assert [record["file"] for record in failed] == ["close.xyz"]


def test_held_atoms_stay(run: Run, model: str) -> None:
    run("md", "CO", "-m", model, *SHORT, "--fix", "O,C", "-o", "held.extxyz")
    first, last = ase.io.read("held.extxyz", 0), ase.io.read("held.extxyz", -1)
    moved = np.linalg.norm(last.positions - first.positions, axis=1) > 1e-6
    assert moved.tolist() == [symbol == "H" for symbol in first.symbols]
    assert last.constraints[0].index.tolist() == [0, 1]


def test_a_ramp_heats(run: Run) -> None:
    result = run(
        "md", "c1ccccc1", "-m", "organic-xtb", "--temperature", "50:900", "--thermostat-time", 5, *SHORT, "--json"
    )
    with open("md.csv", newline="") as file:
        rows = [float(row["temperature_K"]) for row in csv.DictReader(file)]
    assert np.mean(rows[-3:]) > 5 * np.mean(rows[1:4])
    assert json.loads(result.out)[0]["drift_meV_per_atom"] is None  # what would be conserved changes with the ramp
