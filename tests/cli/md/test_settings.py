"""Ramps, and which thermostat or barostat is meant."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ase.build import bulk

from atomsml.cli.md.settings import method_of, ramp
from atomsml.simulate.state import State

Run = Callable[..., Any]


@pytest.mark.parametrize(
    ("words", "values"),
    [
        ("300", {0: 300, 50: 300, 100: 300}),
        ("300:600", {0: 300, 50: 450, 100: 600}),
        ("300:600:0", {0: 300, 25: 450, 50: 600, 75: 300, 100: 0}),
        ("0=10,20=30,80=-30", {0: 10, 10: 20, 20: 30, 50: 0, 80: -30, 100: -30}),
    ],
)
def test_ramps(words: str, values: dict[int, float]) -> None:
    state, schedule = State.of([bulk("Cu")]), ramp("pressure", words, 100)
    for step, value in values.items():
        state.step = torch.tensor([step])
        assert schedule(state).tolist() == [pytest.approx(value)]


@pytest.mark.parametrize(
    "words", ["", "hot", "300:", "300:hot", "0=300,0=400", "100=1,50=2", "a=1", "1.5=300", "1=2=3"]
)
def test_words_that_are_no_ramp(words: str) -> None:
    with pytest.raises(ValueError, match=r"^--temperature must be a number, a ramp as 300:600, or points"):
        ramp("temperature", words, 100)


def test_methods_by_default() -> None:
    assert method_of("nve", None, None) == "nve"
    assert method_of("nvt", None, None) == "langevin"
    assert method_of("nvt", "csvr", None) == "csvr"
    assert method_of("npt", None, None) == "mtk"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--barostat", "mtk"), "--barostat mtk needs --ensemble npt; nvt keeps the cell as it is"),
        (
            ("--ensemble", "nve", "--thermostat", "csvr"),
            "csvr needs --ensemble nvt; nve has no thermostat",
        ),
        (("--ensemble", "npt", "--thermostat", "csvr"), "npt takes the thermostat that its barostat brings"),
        (("--ensemble", "npt"), "O, frame 0: a system under pressure must be periodic along its three axes"),
        (("--temperature", "-1"), "temperatures must be numbers of K, not below zero, got [-1.0]"),
        (("--temperature", "300:x"), "temperature must be a number, a ramp as 300:600, or points"),
        (("--thermostat-time", 0), "thermostat_time must be a positive number of fs, got 0.0"),
        (("--resume",), "--resume needs a file from which a run can go on, as md.h5; got md.extxyz"),
        (("--fix", "O,H"), "every atom is held by 'O,H'"),
        (("-o", "md.dcd"), "cannot write a trajectory to md.dcd; use the suffix .h5, .extxyz, .xyz or .traj"),
    ],
)
def test_what_does_not_go_together_is_refused(run: Run, model: str, words: tuple[object, ...], message: str) -> None:
    result = run("md", "O", "-m", model, *words)
    assert (result.status, result.out) == (1, "")
    assert result.err.count("\n") == 1
    assert message in result.err
    assert list(Path().iterdir()) == []
