"""Bad input: one clear line, a non-zero status, nothing half-written."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase.build import bulk, molecule

Run = Callable[..., Any]

COMMANDS = ("energy", "relax", "md")


def _check(run: Run, *words: object, message: str) -> None:
    before = sorted(Path().rglob("*"))
    result = run(*words)
    assert result.status == 1
    assert result.out == ""
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert message in result.err
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize("command", COMMANDS)
class TestEveryCommand:
    def test_missing_file(self, run: Run, model: str, command: str) -> None:
        _check(run, command, "O", "missing.cif", "-m", model, message="no file 'missing.cif'")

    def test_unreadable_file(self, run: Run, model: str, command: str) -> None:
        Path("broken.xyz").write_text("3\n\nH 0 0\n")
        _check(run, command, "broken.xyz", "-m", model, message="broken.xyz: frame 0 is cut off")

    def test_binary_file(self, run: Run, model: str, command: str) -> None:
        Path("noise.cif").write_bytes(bytes(range(256)))
        _check(run, command, "noise.cif", "-m", model, message="noise.cif: cannot be read")

    def test_unknown_model(self, run: Run, command: str) -> None:
        _check(run, command, "O", "-m", "nobody", message="unknown model 'nobody'")

    def test_file_that_is_no_model(self, run: Run, command: str) -> None:
        Path("bad.safetensors").write_text("hello")
        _check(run, command, "O", "-m", "bad.safetensors", message="bad.safetensors")

    def test_unknown_element(self, run: Run, model: str, command: str) -> None:
        _check(run, command, "O", "CCl", "-m", model, "--strict", message="CCl, frame 0: the model does not know Cl")

    def test_nan_positions(self, run: Run, model: str, command: str) -> None:
        atoms = molecule("H2O")
        atoms.positions[1, 2] = float("nan")
        ase.io.write("nan.traj", atoms)
        _check(run, command, "nan.traj", "-m", model, message="nan.traj, frame 0: the position of atom 1 is not finite")

    def test_singular_cell(self, run: Run, model: str, command: str) -> None:
        atoms = bulk("Cu")
        atoms.cell[2] = atoms.cell[0]
        ase.io.write("flat.traj", [molecule("H2O"), atoms])
        words = ("flat.traj", "-m", model, "--strict")
        _check(run, command, *words, message="flat.traj, frame 1: periodic, but its cell is singular")

    def test_no_atoms(self, run: Run, model: str, command: str) -> None:
        ase.io.write("empty.traj", ase.Atoms())
        _check(run, command, "empty.traj", "-m", model, message="empty.traj, frame 0: has no atoms")

    def test_folder_that_cannot_be_written(self, run: Run, model: str, command: str) -> None:
        Path("file").write_text("")
        _check(run, command, "O", "-m", model, "-o", "file/out.extxyz", message="cannot write file/out.extxyz")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_folder_without_permission(self, run: Run, model: str, command: str) -> None:
        Path("locked").mkdir(mode=0o500)
        _check(run, command, "O", "-m", model, "-o", "locked/out.extxyz", message="no permission to write")

    def test_output_is_a_folder(self, run: Run, model: str, command: str) -> None:
        Path("out.extxyz").mkdir()
        _check(run, command, "O", "-m", model, "-o", "out.extxyz", message="it is a folder")

    def test_unknown_suffix(self, run: Run, model: str, command: str) -> None:
        _check(run, command, "O", "-m", model, "-o", "out.unknown", message="out.unknown")
        _check(run, command, "O", "-m", model, "-o", "out", message="cannot write")

    def test_missing_gpu(self, run: Run, model: str, command: str) -> None:
        import torch

        device = "mps" if torch.cuda.is_available() else "cuda"
        _check(run, command, "O", "-m", model, "--device", device, message=f"device '{device}'")


@pytest.mark.parametrize(("command", "options"), [("energy", ()), ("relax", ()), ("md", ("--steps", 2))])
def test_bad_structures_do_not_stop_the_others(run: Run, model: str, command: str, options: tuple[object, ...]) -> None:
    good, strange = molecule("H2O"), molecule("H2O")
    strange.positions[1] = np.nan
    ase.io.write("three.traj", [good, strange, good])
    Path("cut.xyz").write_text("3\n\nO 0 0 0\n")
    inputs = ("three.traj", "CCl", "cut.xyz", "O")
    result = run(command, *inputs, "-m", model, "-o", "out.extxyz", "--json", *options)
    assert result.status == 1
    reasons = {
        "three.traj, frame 1": "the position of atom 1 is not finite, or beyond 1e+08 A; correct it",
        "CCl, frame 0": "the model does not know Cl",
        "cut.xyz": "frame 0 is cut off; check that the file is complete",
    }
    for place, reason in reasons.items():
        assert f"refused: {place}: {reason}" in result.err
    assert "3 of 6 inputs were refused and left out" in result.err
    records = json.loads(result.out)
    places = [("three.traj", 0), ("three.traj", 1), ("three.traj", 2), ("CCl", 0), ("cut.xyz", None), ("O", 0)]
    assert [(record["file"], record["index"]) for record in records] == places
    assert ["refused" in record for record in records] == [False, True, False, True, True, False]
    summary = json.loads(Path("out.summary.json").read_text())
    assert summary["structures"] == 3
    refused = [record for record in summary["failed"] if "refused" in record]
    assert all(record["refused"].startswith(reason) for record, reason in zip(refused, reasons.values(), strict=True))
    if command == "md":  # numbered as the inputs are, so that a refusal renames nothing
        assert sorted(path.name for path in Path().glob("out-*.extxyz")) == [f"out-{i}.extxyz" for i in (0, 2, 5)]
    else:
        assert len(ase.io.read("out.extxyz", ":")) == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("relax", "--steps", 0), "steps must be at least 1, got 0"),
        (("relax", "--steps", -5), "steps must be at least 1, got -5"),
        (("relax", "--fmax", "nan"), "fmax must be a positive number of eV/A, got nan"),
        (("relax", "--fmax", -1), "fmax must be a positive number of eV/A, got -1.0"),
        (("relax", "--cell"), "O, frame 0: relaxing the cell needs a crystal that is periodic along all three axes"),
        (("relax", "--trajectory", "steps.cif"), "cannot write a trajectory to steps.cif"),
        (("md", "--steps", 0), "steps must be at least 1, got 0"),
        (("md", "--timestep", 0), "timestep must be a positive number of fs, got 0.0"),
        (("md", "--timestep", "inf"), "timestep must be a positive number of fs, got inf"),
        (("md", "--temperature", -10), "temperatures must be numbers of K, not below zero, got [-10.0]"),
        (("md", "--output", "md.cif"), "cannot write a trajectory to md.cif"),
    ],
)
def test_settings_out_of_range(run: Run, model: str, words: tuple[object, ...], message: str) -> None:
    command, *options = words
    _check(run, command, "O", "-m", model, *options, message=message)


def test_one_structure_formats_refuse_several(run: Run, model: str) -> None:
    _check(run, "relax", "O", "CO", "-m", model, "-o", "out.vasp", message="cannot write 2 structures to out.vasp")


def test_a_structure_that_the_format_cannot_hold(run: Run, model: str) -> None:
    result = run("energy", "O", "-m", model, "-o", "out.vasp")
    assert result.status == 1
    assert "error: cannot write out.vasp in this format" in result.err
    assert list(Path().iterdir()) == []


def test_atoms_at_the_same_place(run: Run, model: str) -> None:
    ase.io.write("twice.xyz", ase.Atoms("H2", np.zeros((2, 3))))
    _check(run, "energy", "twice.xyz", "-m", model, message="twice.xyz, frame 0: atoms 0 and 1 are less")
    _check(run, "relax", "twice.xyz", "-m", model, message="twice.xyz, frame 0: atoms 0 and 1 are less")
    _check(run, "md", "twice.xyz", "-m", model, message="twice.xyz, frame 0: atoms 0 and 1 are less")
    assert not list(Path().glob("md.[!s]*"))


def test_single_atom_md(run: Run, model: str) -> None:
    ase.io.write("atom.xyz", ase.Atoms("Cu"))
    _check(run, "md", "atom.xyz", "-m", model, message="atom.xyz, frame 0: a single atom cannot move")


def test_info_of_nothing(run: Run) -> None:
    _check(run, "info", "nobody", message="unknown model 'nobody'")
