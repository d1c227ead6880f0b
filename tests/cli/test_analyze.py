"""`atomsml analyze`: tables, JSON, files; the same from a run and from what it was exported to."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase.build import bulk, molecule
from PIL import Image

from atomsml.simulate.analysis import ANALYSES
from atomsml.simulate.dynamics.langevin import Langevin
from atomsml.simulate.md import md
from atomsml.simulate.model import Model
from atomsml.simulate.trajectory import TrajectoryWriter, record
from atomsml.testing.model_potentials import LennardJones

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def a_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 frames of solid argon and of a molecule, 8 fs apart."""
    path = tmp_path_factory.mktemp("run") / "run.h5"
    lj = LennardJones(onset=5.0, cutoff=6.0)
    scattered = molecule("CH3OH")
    scattered.positions *= 3
    structures, model = [bulk("Ar", "fcc", 5.3, cubic=True) * (2, 2, 2), scattered], Model(lj, lj.cutoff)
    about = {"settings": {"ensemble": "nvt", "temperature": 30.0}}
    with TrajectoryWriter.create(path, structures, 4.0, 2, names=["solid", "cloud"], about=about) as writer:
        thermostat = Langevin(4.0, temperature=30.0)
        for _ in record(md(structures, model, thermostat, 238, 2, temperature=30.0), writer, model):
            pass
    return path


def test_a_table_of_what_the_trajectory_can_give(run: Run, a_run: Path) -> None:
    result = run("analyze", a_run)
    assert result.status == 0
    lines = [line.split() for line in result.out.splitlines()]
    assert lines[0] == ["system", "analysis", "quantity", "value", "error"]
    assert {line[1] for line in lines[1:] if line[0] == "solid"} == set(ANALYSES) - {"bonds"}
    (neighbours,) = [line for line in lines if line[2:4] == ["Ar-Ar", "neighbours"]]
    assert float(neighbours[4]) == pytest.approx(12, abs=0.1)
    assert "note: no bonds of solid: no two atoms of the first frame are bonded" in result.err
    assert "note: no rdf of cloud: the system has no volume" in result.err
    assert list(Path().iterdir()) == []


def test_an_export_says_the_same(run: Run, a_run: Path) -> None:
    """The settings of the run stay behind, the time between frames is given, and atoms are wrapped."""
    assert run("convert", a_run, "-o", "out.extxyz").status == 0
    frames = ase.io.read("out-0.extxyz", ":")
    for atoms in frames:
        atoms.wrap()
    ase.io.write("wrapped.extxyz", frames)
    skipped = ["--skip", 100, "--json"]
    ours = json.loads(run("analyze", a_run, *skipped).out)[0]
    result = run("analyze", "wrapped.extxyz", "--spacing", 8, *skipped)
    (theirs,) = json.loads(result.out)
    assert ours["frames"] == theirs["frames"] == 107
    assert set(theirs["refused"]) == {"heat-capacity", "bonds"}
    for name, numbers in theirs["found"].items():
        assert numbers == pytest.approx(ours["found"][name], rel=1e-5, abs=1e-6), name
    result = run("analyze", "wrapped.extxyz", "--only", "msd")
    assert result.status == 1
    assert "does not say how much time lies between frames; give it with --spacing" in result.err


def test_files(run: Run, a_run: Path) -> None:
    result = run("analyze", a_run, "--only", "rdf,vacf", "-o", "out")
    assert result.status == 1  # the molecule has no rdf
    assert result.err.splitlines()[-1].startswith("error: no rdf of cloud: the system has no volume")
    assert "warning: cloud: frames every 8 fs tell motions up to 2085 cm^-1" in result.err
    words = ["rdf-0", "vdos-0", "vacf-0", "vdos-1", "vacf-1"]
    names = sorted(f"{word}.{suffix}" for word in words for suffix in ("csv", "png"))
    assert sorted(path.name for path in Path("out").iterdir()) == names
    with open("out/rdf-0.csv", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["r [A]", "g Ar-Ar"]
    r, g = np.array(rows, dtype=float).T
    assert r[g.argmax()] == pytest.approx(5.3 / 2**0.5, abs=0.1)
    for path in Path("out").glob("*.png"):
        assert np.ptp(np.asarray(Image.open(path).convert("L"))) > 100


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--only", "rfd"], "rfd"),
        (["--skip", "1e9"], "solid: all 120 frames lie in the first 1e+09 fs, which are to be skipped"),
    ],
)
def test_what_cannot_be_is_said(run: Run, a_run: Path, words: list[str], said: str) -> None:
    result = run("analyze", a_run, *words)
    assert result.status == 1
    assert result.out == ""
    assert said in result.err
    assert len(result.err.splitlines()) == 1


def test_files_that_are_no_trajectories(run: Run) -> None:
    Path("cut.h5").write_bytes(b"atomsml commits\n" + bytes(600))
    ase.io.write("mixed.extxyz", [molecule("H2"), molecule("H2O")], format="extxyz")
    for name, said in {
        "none.h5": "no file none.h5; check the path",
        "cut.h5": "cut.h5: is no trajectory that atomsml wrote",
        "mixed.extxyz": "mixed.extxyz, frame 1: has other atoms than frame 0",
    }.items():
        result = run("analyze", name)
        assert result.status == 1
        assert said in result.err
        assert len(result.err.splitlines()) == 1
