"""Options from a YAML file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


def _options(name: str = "relaxed") -> dict[str, object]:
    return json.loads(Path(f"{name}.summary.json").read_text())["options"]


def test_yaml_sets_options_and_the_command_line_wins(run: Run, model: str) -> None:
    Path("run.yaml").write_text(
        f"model: {model}\nfmax: 1e-3\nsteps: 4\noptimizer: fire\nprecision: float64\noutput: a.extxyz\njson: true\n"
    )
    result = run("relax", "O", "--config", "run.yaml", "--steps", 3, "--optimizer", "fire")
    assert json.loads(result.out)[0]["file"] == "O"
    options = _options("a")
    assert (options["fmax"], options["steps"], options["optimizer"]) == (1e-3, 3, "fire")
    assert (options["model"], options["precision"]) == (model, "float64")


def test_flags_can_be_set_and_unset(run: Run, model: str) -> None:
    Path("run.yaml").write_text("cell: true\nsteps: 1\n")
    refused = run("relax", "O", "-m", model, "--config", "run.yaml")
    assert "periodic along all three axes" in refused.err
    run("relax", "O", "-m", model, "--config", "run.yaml", "--no-cell")
    assert _options()["cell"] is False


def test_errors_about_values_name_their_file(run: Run, model: str) -> None:
    Path("cold.yaml").write_text("temperature: -300\n")
    refused = run("md", "O", "-m", model, "--config", "cold.yaml")
    assert refused.err == "error: cold.yaml: temperatures must be numbers of K, not below zero, got [-300.0]\n"


def test_dashes_and_underscores_are_the_same(run: Run, model: str) -> None:
    Path("run.yaml").write_text("thermostat_time: 50\nsteps: 1\n")
    assert run("md", "O", "-m", model, "--config", "run.yaml").status == 0
    assert _options("md")["thermostat_time"] == 50.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "temprature: 300",
            "unknown option 'temprature'; `atomsml relax` has cell, d3, device, exact, fix, fixed-axes, fmax, ",
        ),
        ("timestep: 0.5", "unknown option 'timestep'"),
        ("config: other.yaml", "unknown option 'config'"),
        ("fmax: small", "fmax cannot be 'small': "),
        ("fmax: true", "fmax cannot be True: "),
        ("steps: 1.5", "steps cannot be 1.5: "),
        ("cell: 7", "cell cannot be 7: "),
        ("optimizer: newton", "unknown --optimizer 'newton'; there are"),
        ("model: [a, b]", "model must be one value, got ['a', 'b']"),
        ("model:", "model must be one value, got None"),
        ("- fmax", "must consist of `key: value` lines"),
        ("fmax: 0.1\nsteps: 5\nfmax: 0.2", "is not a YAML file: the key 'fmax' stands twice, on lines 1 and 3"),
        ("fmax: " + 3000 * "[", "is not a YAML file: nested too deeply"),
        ("fmax: [", "is not a YAML file"),
        ("\x00", "is not a YAML file"),
    ],
)
def test_bad_yaml_is_refused_in_one_line(run: Run, model: str, text: str, message: str) -> None:
    Path("run.yaml").write_text(text)
    result = run("relax", "O", "-m", model, "--config", "run.yaml")
    assert result.status == 1
    assert result.err.startswith("error: run.yaml")
    assert message in result.err
    assert result.err.count("\n") == 1
    assert [path.name for path in Path().iterdir()] == ["run.yaml"]


def test_missing_yaml(run: Run, model: str) -> None:
    result = run("relax", "O", "-m", model, "--config", "none.yaml")
    assert result.status == 1
    assert "none.yaml" in result.err
