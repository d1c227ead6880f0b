"""`atomsml md`: trajectory, log, plot, seeds, and runs that go wrong."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import units
from ase.build import bulk

from atomsml.cli.md.settings import BAROSTATS, CELLS, ENSEMBLES, THERMOSTATS
from atomsml.simulate.optimizers import OPTIMIZERS

Run = Callable[..., Any]

SHORT = ("--steps", 20, "--interval", 5, "--timestep", 0.2)


def test_nve_writes_trajectory_log_plot_and_summary(run: Run, model: str) -> None:
    result = run("md", "CO", "-m", model, *SHORT, "--ensemble", "nve", "--seed", 3, "--json")
    assert result.status == 0
    assert sorted(path.name for path in Path().iterdir()) == ["md.csv", "md.extxyz", "md.png", "md.summary.json"]
    assert Path("md.png").read_bytes().startswith(b"\x89PNG")
    with open("md.csv", newline="") as file:
        rows = [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]
    frames = ase.io.read("md.extxyz", ":")
    assert [row["step"] for row in rows] == [0, 5, 10, 15, 20]
    assert [row["time_fs"] for row in rows] == pytest.approx([0, 1, 2, 3, 4])
    for row, atoms in zip(rows, frames, strict=True):
        assert atoms.get_potential_energy() == pytest.approx(row["potential_eV"], abs=1e-6)
        assert atoms.get_kinetic_energy() == pytest.approx(row["kinetic_eV"], abs=1e-6)
        assert row["temperature_K"] == pytest.approx(2 * row["kinetic_eV"] / (15 * units.kB), abs=1e-2)
        assert row["total_eV"] == row["conserved_eV"] == pytest.approx(rows[0]["total_eV"], abs=1e-3)
    record = json.loads(result.out)[0]
    assert (record["finished"], record["steps"]) == (True, 20)
    assert record["mean_temperature"] == pytest.approx(np.mean([row["temperature_K"] for row in rows]), abs=1e-2)
    assert abs(record["drift_meV_per_atom"]) < 1
    summary = json.loads(Path("md.summary.json").read_text())
    assert summary["seed"] == 3
    assert summary["outputs"] == ["md.extxyz", "md.csv", "md.png"]


def test_seed_decides_the_trajectory(run: Run, model: str) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run("md", "O", "-m", model, *SHORT, "--seed", seed, "-o", f"{name}.traj")
    first, again, other = (ase.io.read(f"{name}.traj", -1).positions for name in "abc")
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-4


def test_several_inputs_give_several_trajectories(run: Run, model: str) -> None:
    result = run("md", "O", "CO", "-m", model, *SHORT, "-o", "run.extxyz")
    assert result.status == 0
    assert str(ase.io.read("run-0.extxyz", -1).symbols) == "OH2"
    assert len(ase.io.read("run-1.extxyz", -1)) == 6
    names = {f"run-{i}{suffix}" for i in (0, 1) for suffix in (".extxyz", ".csv", ".png")}
    assert {path.name for path in Path().iterdir()} == names | {"run.summary.json"}


def test_an_exploding_run_fails_and_keeps_what_it_had(run: Run, model: str) -> None:
    result = run("md", "CO", "-m", model, "--timestep", 50, "--steps", 100, "--interval", 1, "--temperature", 3000)
    assert result.status == 1
    assert "error: CO, frame 0: atom " in result.err
    assert "try a smaller time step" in result.err
    summary = json.loads(Path("md.summary.json").read_text())
    assert summary["failed"][0]["finished"] is False
    assert len(ase.io.read("md.extxyz", ":")) == summary["failed"][0]["steps"] + 1
    assert not list(Path().glob(".*"))


@pytest.mark.parametrize(
    ("ensemble", "method"),
    [("nvt", ("--thermostat", name)) for name in THERMOSTATS] + [("npt", ("--barostat", name)) for name in BAROSTATS],
)
def test_every_thermostat_and_barostat_conserves_its_energy(run: Run, ensemble: str, method: tuple[str, str]) -> None:
    salt = bulk("NaCl", "rocksalt", 5.64, cubic=True)
    ase.io.write("salt.vasp", salt)
    words = ("salt.vasp", "-m", "universal-small", "--precision", "float64", "--ensemble", ensemble, *method)
    times = ("--thermostat-time", 20, "--barostat-time", 200)
    result = run("md", *words, *times, "--steps", 60, "--interval", 2, "--pressure", 0.5, "--json")
    assert result.status == 0
    (record,) = json.loads(result.out)
    with open("md.csv", newline="") as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    total, conserved = (np.array([row[key] for row in rows]) for key in ("total_eV", "conserved_eV"))
    assert np.ptp(conserved) < 0.02 * np.ptp(total)
    assert abs(record["drift_meV_per_atom"]) < 1
    volumes = [row["volume_A^3"] for row in rows]
    assert (np.ptp(volumes) > 1e-3) == (ensemble == "npt")
    assert volumes[0] == pytest.approx(salt.get_volume(), rel=1e-6)
    for row, atoms in zip(rows, ase.io.iread("md.extxyz"), strict=True):
        assert atoms.get_volume() == pytest.approx(row["volume_A^3"], rel=1e-6)
        pressure = (
            -np.trace(atoms.get_stress(voigt=False)) / 3 + 8 * units.kB * row["temperature_K"] / atoms.get_volume()
        )
        assert pressure / units.GPa == pytest.approx(row["pressure_GPa"], abs=1e-4)


@pytest.mark.parametrize(
    ("command", "nouns"),
    [("md", ENSEMBLES | THERMOSTATS | BAROSTATS | CELLS), ("relax", OPTIMIZERS)],
    ids=["md", "relax"],
)
def test_help_and_guide_list_what_there_is(run: Run, command: str, nouns: dict[str, Any]) -> None:
    listed = " ".join(run(command, "--help").out.split())
    guide = (Path(__file__).parents[3] / "docs" / "simulation.md").read_text()
    for name, noun in nouns.items():
        assert f"{name}: {noun.about}" in listed
        assert f"| `{name}` | {noun.about} |" in guide


@pytest.mark.parametrize("command", ["md", "relax"])
def test_forces_that_are_no_gradient_are_warned_of(run: Run, model: str, direct_model: str, command: str) -> None:
    """By md and relax, once for all structures; a committee with one such member has such forces as well."""
    shutil.copytree(Path(model).parent, "both/member-0")
    shutil.copytree(Path(direct_model).parent, "both/member-1")
    Path("both/member-0/small.safetensors").rename("both/member-0/model.safetensors")
    Path("both/member-1/direct.safetensors").rename("both/member-1/model.safetensors")
    consequence = {"md": "nve does not conserve the total energy", "relax": "the energy need not be at a minimum"}
    for name, warned in ((model, 0), (direct_model, 1), ("both", 1)):
        result = run(command, "O", "[H][H]", "-m", name, "--steps", 1)
        lines = [line for line in result.err.splitlines() if "minus the gradient" in line]
        assert len(lines) == warned
        assert all(line.startswith(f"warning: the forces of {name} are not") for line in lines)
        assert all(consequence[command] in line for line in lines)
