"""`atomsml info --precision-report` against the report of the library. What `info` says otherwise: test_models.py."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase
import ase.io
import pytest
from ase.build import molecule

from atomsml.interfaces import precision
from atomsml.io import atoms_from_smiles

Run = Callable[..., Any]


@pytest.fixture(autouse=True)
def short_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """20 steps instead of 400."""
    monkeypatch.setattr(precision, "SETTINGS", precision.RunSettings(300.0, 0.5, 20))


def test_json_is_what_the_library_reports(run: Run, model: str) -> None:
    result = run("info", model, "--precision-report", "O", "--json")
    assert result.status == 0
    about = json.loads(result.out)
    wanted = {"model": model, "file": "O", "index": 0, "formula": "H2O", "atoms": 3, "seed": 0}
    wanted |= {"ensemble": "nve", "temperature": 300.0, "timestep": 0.5, "steps": 20}
    assert {key: about[key] for key in wanted} == wanted
    assert about["threads"] >= 1
    assert set(about["radial_tables"]) == {"float64", "float32"}
    for table, bound in ((about["radial_tables"]["float64"], 1e-8), (about["radial_tables"]["float32"], 5e-7)):
        assert table["pieces"] > 1
        assert 0 < table["value_deviation"] < table["slope_deviation"] < bound
    reports = list(precision.precision_report(model, _water(), settings=precision.SETTINGS))
    assert len(about["policies"]) == len(reports)
    for found, report in zip(about["policies"], reports, strict=True):
        again = dataclasses.asdict(report)
        assert found.pop("step_time") > 0
        assert again.pop("step_time") > 0
        assert found == again


def test_table_has_a_line_per_policy(run: Run, model: str) -> None:
    result = run("info", model, "--precision-report", "O")
    title, empty, header, *lines, double, single = result.out.splitlines()
    assert double.startswith("Tables of radial functions for a float64 network: ")
    assert single.startswith("Tables of radial functions for a float32 network: ")
    assert title.startswith("H2O, 3 atoms, ")
    assert "Deviations from float64 exact" in title
    assert empty == ""
    assert header.split()[:4] == ["policy", "energy", "max", "meV/atom"]
    assert lines[0].split()[:6] == ["float64", "exact", *["0.0e+00"] * 4]
    assert {line.split()[0] for line in lines} == {"float64", "mixed", "float32"}
    assert len(result.err.splitlines()) == len(lines)  # progress


def test_of_several_structures_the_first_is_taken(run: Run, model: str) -> None:
    ase.io.write("two.extxyz", [molecule("H2O"), molecule("CH4")])
    result = run("info", model, "--precision-report", "two.extxyz", "--json")
    assert json.loads(result.out)["formula"] == "H2O"
    assert result.err.splitlines()[0] == "two.extxyz holds 2 structures; the report is of two.extxyz, frame 0"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("missing.cif", "no file 'missing.cif'"),
        ("CCl", "CCl, frame 0: the model does not know Cl"),
        ("empty.traj", "empty.traj, frame 0: has no atoms"),
        ("none.xyz", "none.xyz"),
        ("atom.xyz", "atom.xyz, frame 0: a single atom cannot move"),
    ],
)
def test_bad_input_gets_one_line(run: Run, model: str, source: str, message: str) -> None:
    ase.io.write("empty.traj", ase.Atoms())
    Path("none.xyz").write_text("")
    ase.io.write("atom.xyz", ase.Atoms("O"))
    result = run("info", model, "--precision-report", source)
    assert (result.status, result.out) == (1, "")
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert message in result.err


def _water() -> ase.Atoms:
    return atoms_from_smiles("O")
