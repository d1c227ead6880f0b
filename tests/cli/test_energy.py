"""`atomsml energy` against the calculator in a script."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase.build import bulk, molecule

import atomsml
from atomsml import AtomsMLCalculator

Run = Callable[..., Any]


@pytest.fixture
def inputs(tmp_path: Path) -> list[str]:
    """A file with two molecules, and a crystal."""
    molecules = [molecule("CH3OH"), molecule("H2O")]
    for atoms in molecules:
        atoms.info.clear()
    ase.io.write(tmp_path / "molecules.xyz", molecules, format="extxyz")
    crystal = bulk("Cu", cubic=True)
    crystal.rattle(0.1, seed=0)
    ase.io.write(tmp_path / "copper.vasp", crystal)
    return ["molecules.xyz", "copper.vasp"]


def test_json_is_what_the_calculator_says(run: Run, model: str, inputs: list[str]) -> None:
    result = run("energy", *inputs, "-m", model, "--json", "--precision", "float64")
    assert (result.status, result.err) == (0, "")
    records = json.loads(result.out)
    assert [(r["file"], r["index"], r["formula"]) for r in records] == [
        ("molecules.xyz", 0, "CH4O"),
        ("molecules.xyz", 1, "H2O"),
        ("copper.vasp", 0, "Cu4"),
    ]
    structures = [*ase.io.read("molecules.xyz", ":"), ase.io.read("copper.vasp")]
    for record, atoms in zip(records, structures, strict=True):
        atoms.calc = AtomsMLCalculator(model, precision="float64")
        assert record["energy"] == pytest.approx(atoms.get_potential_energy(), abs=1e-10)
        np.testing.assert_allclose(record["forces"], atoms.get_forces(), rtol=0, atol=1e-10)
        assert ("stress" in record) == bool(atoms.pbc.any())
        if atoms.pbc.any():
            np.testing.assert_allclose(record["stress"], atoms.get_stress(), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("[NH4+]", "its total charge is +1, the model was made for 0"),
        ("[CH3]", "its spin multiplicity is 2, the model was made for 1"),
        ("O=O", "its ground state has the spin multiplicity 3, the model was made for 1"),
    ],
)
def test_ions_and_open_shells_are_refused(run: Run, source: str, reason: str) -> None:
    result = run("energy", source)
    assert result.status == 1
    assert f"{source}, frame 0: {reason}; " in result.err


def test_a_model_that_states_no_charge_says_so_in_one_line(run: Run, model: str) -> None:
    result = run("energy", "[OH3+]", "[OH-]", "C", "-m", model)
    assert result.status == 0
    assert len(result.out.splitlines()) == 4
    what = "does not say for which total charge and spin it holds; those of the structures are ignored"
    assert result.err == f"warning: the model {model} {what}\n"


def test_table_has_a_line_per_structure(run: Run, model: str, inputs: list[str]) -> None:
    result = run("energy", *inputs, "O", "-m", model)
    header, *lines = result.out.splitlines()
    assert header.split()[:5] == ["file", "index", "formula", "energy", "eV"]
    assert [line.split()[:3] for line in lines] == [
        ["molecules.xyz", "0", "CH4O"],
        ["molecules.xyz", "1", "H2O"],
        ["copper.vasp", "0", "Cu4"],
        ["O", "0", "H2O"],
    ]


def test_output_holds_the_results_and_a_summary_says_how(run: Run, model: str, inputs: list[str]) -> None:
    result = run("energy", *inputs, "-m", model, "-o", "new/out.extxyz", "--json")
    assert result.status == 0
    images = ase.io.read("new/out.extxyz", ":")
    for record, atoms in zip(json.loads(result.out), images, strict=True):
        # extxyz keeps 8 decimals of forces
        assert atoms.get_potential_energy() == pytest.approx(record["energy"], abs=1e-6)
        np.testing.assert_allclose(atoms.get_forces(), record["forces"], rtol=0, atol=1e-7)
    summary = json.loads(Path("new/out.summary.json").read_text())
    assert summary["command"] == "energy"
    assert summary["inputs"] == inputs
    assert summary["options"]["precision"] == "mixed"
    assert summary["model"]["name"] == model
    assert len(summary["model"]["sha256"]) == 64
    assert summary["versions"]["atomsml"] == atomsml.__version__
    assert set(summary["versions"]) == {"atomsml", "torch", "ase", "numpy", "python"}
    assert summary["structures"] == 3
    assert summary["outputs"] == ["new/out.extxyz"]
    assert summary["wall_time_s"] > 0


def test_without_output_nothing_is_written(run: Run, model: str, tmp_path: Path) -> None:
    run("energy", "O", "-m", model)
    assert list(tmp_path.iterdir()) == []


def test_precision_reaches_the_model(run: Run, model: str) -> None:
    energies = [
        json.loads(run("energy", "O", "-m", model, "--json", "--precision", p).out)[0]["energy"]
        for p in ("float32", "float64")
    ]
    assert energies[0] != energies[1]
    assert energies[0] == pytest.approx(energies[1], abs=1e-5)


def test_a_smiles_that_takes_long_says_so_first(run: Run, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atomsml.io.molecules.LARGE", 8)  # at the real limit the test would take a minute
    result = run("energy", "CCO", "O", "-m", model)
    assert result.status == 0
    assert result.err.count("warning: to place the 9 atoms of SMILES CCO may take minutes") == 1


def test_a_folder_is_its_files_and_says_what_it_left_out(run: Run, model: str) -> None:
    Path("set").mkdir()
    for name in ("b.xyz", "a.extxyz"):
        ase.io.write(Path("set", name), molecule("H2O"))
    Path("set", "notes.txt").write_text("no structures")
    result = run("energy", "set", "-m", model, "--json")
    assert [record["file"] for record in json.loads(result.out)] == ["set/a.extxyz", "set/b.xyz"]
    assert "set: left out set/notes.txt" in result.err


def test_a_format_overrules_the_name_of_a_file(run: Run, model: str) -> None:
    Path("list.dat").write_text("O water\nCO methanol\n")
    result = run("energy", "list.dat", "--format", "smiles", "-m", model, "--json")
    assert [record["formula"] for record in json.loads(result.out)] == ["H2O", "CH4O"]
