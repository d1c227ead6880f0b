"""What md tells with --analyze, and what `atomsml analyze` reads of its files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ase.build import bulk

Run = Callable[..., Any]


def test_md_analyzes_its_run(run: Run, model: str) -> None:
    bulk("Cu", cubic=True).write("copper.cif")
    words = ("copper.cif", "-m", model, "--steps", 110, "--interval", 1, "--analyze")
    result = run("md", *words, "-o", "run.h5")
    assert result.status == 0, result.err
    names = {path.name for path in Path("run.analysis").iterdir()}
    assert {"rdf.csv", "rdf.png", "msd.csv", "vdos.csv", "heat-capacity.csv"} <= names
    assert "copper.cif, frame 0  coordination" in result.out
    (told,) = json.loads(run("analyze", "run.h5", "--json").out)
    assert told["frames"] == 111
    assert told["found"]["heat-capacity"]["temperature [K]"] > 0
    again = run("md", *words[:-1], "-o", "run.h5", "--resume")  # with or without is the same run
    assert (again.status, "nothing was left to do" in again.err) == (0, True)
    refused = run("md", *words, "-o", "run.extxyz")
    assert refused.status == 1
    assert "--analyze needs one file for all, as run.h5; got run.extxyz" in refused.err


@pytest.mark.parametrize("ensemble", ["nve", "npt"])
def test_heat_capacities_know_the_ensemble(run: Run, model: str, ensemble: str) -> None:
    bulk("Cu", cubic=True).write("copper.cif")
    words = ("--ensemble", ensemble, "--steps", 110, "--interval", 1, "--pressure", "0.5" if ensemble == "npt" else "0")
    assert run("md", "copper.cif", "-m", model, *words, "-o", "run.h5").status == 0
    result = run("analyze", "run.h5", "--only", "heat-capacity", "--json")
    (told,) = json.loads(result.out)
    if ensemble == "npt":
        assert "C_P [eV/K]" in told["found"]["heat-capacity"]
    else:
        assert result.status == 1
        assert "this run was at constant energy" in told["refused"]["heat-capacity"]
