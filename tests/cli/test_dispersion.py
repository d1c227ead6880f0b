"""--d3 of every command that takes a model: what is computed, what is stated, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import ase.io
import pytest
import typer
from ase.build import bulk

from atomsml import AtomsMLCalculator
from atomsml.cli.main import app

Run = Callable[..., Any]


@pytest.fixture(autouse=True)
def tungsten(run: Run) -> None:
    atoms = bulk("W", cubic=True)
    atoms.rattle(0.05, seed=0)
    ase.io.write("W.vasp", atoms)


def test_energy_says_what_the_calculator_says(run: Run) -> None:
    [record] = json.loads(run("energy", "W.vasp", "--d3", "pbe", "--json", "--precision", "float64").out)
    atoms = ase.io.read("W.vasp")
    atoms.calc = AtomsMLCalculator("refractory-pbe", "cpu", "float64", d3="pbe")
    assert record["energy"] == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
    assert record["stress"] == pytest.approx(atoms.get_stress().tolist(), abs=1e-10)


@pytest.mark.parametrize(
    ("command", "output"),
    [
        (("relax", "--cell", "-o", "out.extxyz"), "out.summary.json"),
        (("md", "--steps", "2", "-o", "out.h5"), "out.summary.json"),
        (("eos", "--no-pictures", "--volumes", "7", "-o", "out"), "out/eos.summary.json"),
    ],
    ids=["relax", "md", "eos"],
)
def test_runs_state_it(run: Run, command: tuple[str, ...], output: str) -> None:
    result = run(command[0], "W.vasp", *command[1:], "--d3", "pbe")
    assert result.status == 0, result.err
    with open(output) as file:
        assert json.load(file)["options"]["d3"] == "pbe"


def test_crystals_are_denser_with_it(run: Run) -> None:
    volumes = []
    for more in ((), ("--d3", "pbe")):
        assert run("relax", "W.vasp", "--cell", "-o", "out.extxyz", *more).status == 0
        volumes.append(ase.io.read("out.extxyz").get_volume())
    assert volumes[1] < volumes[0]


@pytest.mark.slow
def test_goes_to_the_processes_of_several_devices(run: Run) -> None:
    ase.io.write("more.extxyz", [bulk("W"), bulk("Mo")])
    energies = []
    for device in ("cpu", "cpu,cpu"):
        out = run("relax", "more.extxyz", "--d3", "pbe", "--device", device, "-o", "out.extxyz", "--json").out
        energies.append([record["energy"] for record in json.loads(out)])
    assert energies[1] == pytest.approx(energies[0], abs=1e-5)


def test_another_one_does_not_resume(run: Run) -> None:
    assert run("md", "W.vasp", "--steps", "2", "-o", "out.h5", "--d3", "pbe").status == 0
    result = run("md", "W.vasp", "--steps", "2", "-o", "out.h5", "--resume")
    assert result.status == 1
    assert "is of a run with --d3 pbe, not without --d3" in result.err


def test_wrong_words_are_refused_in_one_line(run: Run) -> None:
    result = run("energy", "W.vasp", "--d3", "pbx")
    assert result.status == 1
    assert "unknown functional of D3 'pbx'; did you mean 'pbe'?" in result.err


def test_twice_is_warned_of(run: Run) -> None:
    result = run("energy", "CCO", "--d3", "pbe")
    assert result.status == 0
    assert "warning: organic-xtb: its labels, GFN2-xTB, have dispersion, which D3 adds once more" in result.err


def test_every_command_that_takes_a_model_takes_it() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    options = {name: {word for each in command.params for word in each.opts} for name, command in commands.items()}
    taking = {name for name, words in options.items() if "--model" in words} - {"train"}  # where it is an architecture
    assert {"energy", "relax", "md", "eos"} <= taking
    assert {name for name in taking if "--d3" not in options[name]} == set()
