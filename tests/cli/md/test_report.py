"""The page of `atomsml md --report`: the frames with the numbers of the log, whatever file has them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase.build import bulk

from atomsml.io.trajectory import Trajectory
from tests.browser import viewer_data

Run = Callable[..., Any]

SHORT = ("--steps", 20, "--interval", 5, "--timestep", 0.2)


def places(scene: dict[str, Any]) -> np.ndarray:
    return np.array([frame["places"] for frame in scene["frames"]]).reshape(len(scene["frames"]), -1, 3) / 1000


@pytest.mark.parametrize("name", ["md.extxyz", "md.traj", "md.h5"])
def test_frames_and_curves_are_those_of_the_run(run: Run, model: str, name: str) -> None:
    result = run("md", "CO", "-m", model, *SHORT, "-o", name, "--report", "page.html", "--json")
    assert result.status == 0
    text = Path("page.html").read_text(encoding="utf-8")
    (scene,) = viewer_data(text)["scenes"]
    assert scene["name"] == "CO, frame 0: CH4O"
    assert scene["labels"] == ["0 fs", "1 fs", "2 fs", "3 fs", "4 fs"]
    if name.endswith(".h5"):
        with Trajectory(name) as trajectory:
            positions = trajectory.systems[0].read("positions")
    else:
        positions = np.array([atoms.positions for atoms in ase.io.read(name, ":")])
    assert np.allclose(places(scene), positions, atol=6e-4)
    with open("md.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for column, curve in (("potential_eV", "potential energy (eV)"), ("temperature_K", "temperature (K)")):
        assert scene["curves"][curve] == pytest.approx([float(row[column]) for row in rows], rel=1e-6, abs=1e-3)
    assert text.count("data:image/png") == 1
    assert json.loads(Path("md.summary.json").read_text())["outputs"] == [name, "md.csv", "md.png", "page.html"]


def test_many_structures_share_a_page_and_what_failed_is_said(run: Run, model: str) -> None:
    ase.io.write("copper.cif", bulk("Cu", cubic=True))
    ase.io.write("diamond.cif", bulk("C"))
    ase.io.write("two.extxyz", ase.Atoms("H2", np.zeros((2, 3)), cell=[5] * 3, pbc=True))
    run("md", "diamond.cif", "copper.cif", "two.extxyz", "-m", model, *SHORT, "--report", "page.html")
    text = Path("page.html").read_text(encoding="utf-8")
    diamond, copper = viewer_data(text)["scenes"]
    assert (diamond["name"], copper["name"]) == ("diamond.cif, frame 0: C2", "copper.cif, frame 0: Cu4")
    assert "pressure (GPa)" in copper["curves"]
    assert "volume (Å³)" not in copper["curves"]  # it does not change
    assert "two.extxyz, frame 0: " in text.partition("Not finished")[2]


def test_another_suffix_is_refused_before_the_work(run: Run, model: str) -> None:
    result = run("md", "O", "-m", model, "--report", "page")
    assert result.status == 1
    assert result.err == "error: cannot write the report page; use the suffix .html\n"
    assert list(Path().iterdir()) == []
