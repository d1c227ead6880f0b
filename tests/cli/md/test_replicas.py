"""`atomsml md --replicas`: one file for all temperatures, replicas that can be followed, and runs that go on."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from scipy import stats

from atomsml.cli.md.replicas import overlap, round_trips
from atomsml.cli.md.settings import ladder
from atomsml.io.trajectory import Trajectory
from atomsml.simulate.analysis import analyze_file
from tests.cli.md.test_outputs import quantities

Run = Callable[..., Any]

WORDS = ("md", "O", "-m", "organic-xtb", "--timestep", 0.5, "--replicas", "300,330,360", "--exchange", 5)
WORDS += ("--interval", 1, "--seed", 4)


def test_replicas_climb_and_can_be_followed(run: Run) -> None:
    result = run(*WORDS, "--steps", 60, "-o", "run.h5", "--report", "run.html")
    assert result.status == 0
    names = {"run.h5", "run.csv", "run.png", "run.replicas.csv", "run.replicas.png", "run.summary.json", "run.html"}
    assert {path.name for path in Path().iterdir()} == names
    summary = json.loads(Path("run.summary.json").read_text())
    assert names - {"run.summary.json"} == set(summary["outputs"])
    pairs = summary["replica_exchange"]["pairs"]
    assert [(pair["temperatures"], pair["tried"]) for pair in pairs] == [([300, 330], 5), ([330, 360], 6)]
    with open("run.replicas.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["step", "time_fs", *(f"replica_at_{t}_K" for t in (300, 330, 360))]
    walk = np.array(rows[1:], dtype=float)[:, 2:].astype(int)
    assert (np.sort(walk, axis=1) == [0, 1, 2]).all()
    changes = (np.diff(walk, axis=0) != 0).any(axis=1)
    assert (np.flatnonzero(changes) % 5 == 0).all()  # a swap comes before the step after an attempt
    swapped = sum(pair["swapped"] for pair in pairs)
    assert 0 < swapped == changes.sum()
    assert abs(summary["replica_exchange"]["drift_meV_per_atom"]) < 1
    for pair, line in zip(pairs, result.out.splitlines()[-3:-1], strict=True):
        assert line.split()[2:4] == [str(pair["tried"]), str(pair["swapped"])]
    with Trajectory("run.h5") as trajectory:
        assert [system.name for system in trajectory.systems] == [f"O, frame 0 at {t} K" for t in (300, 330, 360)]

    assert run("convert", "run.h5", "-o", "rung.extxyz").status == 0
    assert run("convert", "run.h5", "-o", "replica.extxyz", "--replicas").status == 0
    farthest = {name: [farthest_step(f"{name}-{i}.extxyz") for i in range(3)] for name in ("rung", "replica")}
    assert max(farthest["replica"]) < 0.1 < max(farthest["rung"])
    page = Path("run.html").read_text()
    assert "Replica exchange" in page
    assert "round trips between the lowest and the highest temperature" in page


def farthest_step(path: str) -> float:
    """A, of any atom between two frames."""
    positions = np.array([atoms.positions for atoms in ase.io.read(path, ":")])
    return float(np.linalg.norm(np.diff(positions, axis=0), axis=2).max())


def test_a_ladder_goes_on_bit_for_bit(run: Run) -> None:
    run(*WORDS, "--steps", 32, "-o", "run.h5")
    assert run(*WORDS, "--steps", 60, "-o", "run.h5", "--resume").status == 0
    run(*WORDS, "--steps", 60, "-o", "whole.h5")
    for ours, theirs in zip(quantities("run.h5"), quantities("whole.h5"), strict=True):
        for name in theirs:
            np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    assert Path("run.replicas.csv").read_bytes() == Path("whole.replicas.csv").read_bytes()
    for told in analyze_file(Path("run.h5"), ["msd", "vacf"]):
        assert all(told.refused[name].startswith("replicas were exchanged") for name in ("msd", "vacf"))


@pytest.mark.parametrize(
    ("words", "temperatures"),
    [
        ("300,330,360.5", (300, 330, 360.5)),
        ("300:600:2", (300, 600)),
        ("100:800:4", (100, 200, 400, 800)),
    ],
)
def test_ladders(words: str, temperatures: tuple[float, ...]) -> None:
    assert ladder(words) == temperatures


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--replicas", "300"), "--replicas needs two temperatures at least, got 300"),
        (("--replicas", "300:600:1"), "--replicas needs two temperatures at least, got 300:600:1"),
        (("--replicas", "300,600,500"), "temperatures above 0 K that ascend, got 300,600,500"),
        (("--replicas", "600:300:4"), "temperatures above 0 K that ascend, got 600:300:4"),
        (("--replicas=-300:600:4",), "temperatures above 0 K that ascend, got -300:600:4"),
        (("--replicas", "300,nan"), "temperatures above 0 K that ascend, got 300,nan"),
        (("--replicas", "hot"), "--replicas must be temperatures as 300,350,410, or as 300:600:8"),
        (("--replicas", "300:600"), "--replicas must be temperatures as 300,350,410, or as 300:600:8"),
        (("--replicas", "300:600:2.5"), "--replicas must be temperatures as 300,350,410, or as 300:600:8"),
        (("--replicas", "300,400", "--ensemble", "nve"), "--replicas needs --ensemble nvt; nve"),
        (("--replicas", "300,400", "--temperature", 300), "leave one out"),
        (("--replicas", "300,400", "--device", "cpu,cpu"), "replicas move together, on one device"),
        (("--replicas", "300,400", "-o", "run.extxyz"), "--replicas needs one file for all, as run.h5; got run.extxyz"),
        (("--replicas", "300,400", "--steps", 50), "--exchange must be from 1 to the number of steps, 50, got 100"),
        (("--replicas", "300,400", "CO"), "--replicas runs one structure at several temperatures, got 2 structures"),
        (("--exchange", 50), "--exchange says how often replicas swap; give their temperatures with --replicas"),
    ],
)
def test_what_is_no_ladder(run: Run, model: str, words: tuple[object, ...], message: str) -> None:
    result = run("md", "O", "-m", model, "-o", "run.h5", *words)
    assert (result.status, result.out) == (1, "")
    (line,) = [line for line in result.err.splitlines() if line.startswith("error")]
    assert message in line
    assert not list(Path().iterdir())


def test_overlap_is_that_of_the_distributions() -> None:
    """Of two normal distributions d apart, 2 Phi(-d / 2), but for bins and noise."""
    rng = np.random.default_rng(0)
    for distance in (0.0, 1.0, 3.0):
        one, other = rng.normal(size=20000), rng.normal(distance, size=20000)
        assert overlap(one, other) == pytest.approx(2 * stats.norm.cdf(-distance / 2), abs=0.03)


def test_a_round_trip_begins_and_ends_at_the_lowest() -> None:
    walks = [[0, 1, 2, 1, 0, 0, 1, 0], [1, 2, 1, 0, 1, 2, 2, 1], [2, 0, 2, 0, 2, 0, 2, 0]]
    assert [round_trips(np.array([walk]).T, 2) for walk in walks] == [1, 0, 3]
    assert round_trips(np.array([[0, 1], [2, 1], [0, 1]]), 2) == 1  # the second one never leaves the middle
