"""Charges from the command line: trained under keys of the file, shown by `energy`, judged by `evaluate`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest

Run = Callable[..., Any]


@pytest.fixture
def charged(data: Path) -> Path:
    """The molecules of water with fixed charges, and the dipoles that follow from them."""
    images = ase.io.read(data, ":")
    for atoms in images:
        atoms.arrays["hirshfeld"] = np.where(atoms.numbers == 8, -0.8, 0.4)
        atoms.info["mu"] = atoms.arrays["hirshfeld"] @ atoms.positions
    ase.io.write(data, images, format="extxyz")
    return data


def test_from_labels_to_json(run: Run, charged: Path) -> None:
    keys = ["--charges-key", "hirshfeld", "--dipole-key", "mu"]
    small = "model_options={channels: 4, lmax: 1, correlation: 2, radial_mlp: [8], cutoff: 3.5}"
    options = ["--train", charged, "--charges", *keys, "--max-steps", 100, "--set", small, "--device", "cpu", "-o", "r"]
    trained = run("train", *options)
    assert trained.status == 0, trained.err
    assert "charges = hirshfeld, on 20 of 20" in trained.err
    assert "with labels: 19 energy, 19 forces, 0 stress, 19 charges, 19 dipole" in trained.err
    assert "dipole MAE e A" in trained.out
    result = run("energy", "O", "-m", "r/model.safetensors", "--json", "-o", "out.extxyz")
    (record,) = json.loads(result.out)
    assert sum(record["charges"]) == pytest.approx(0, abs=1e-12)
    assert np.shape(record["quadrupole"]) == (3, 3)
    atoms = ase.io.read("out.extxyz")
    assert atoms.get_dipole_moment() == pytest.approx(record["dipole"], abs=1e-7)
    assert atoms.get_charges() == pytest.approx(record["charges"], abs=1e-7)
    assert "dipole x y z e A" in run("energy", "O", "-m", "r/model.safetensors").out
    judged = json.loads(run("evaluate", "r/model.safetensors", charged, *keys, "--json").out)
    assert judged["errors"]["all"]["dipoles"] == 20
    assert judged["errors"]["all"]["charges_mae"] < 0.2
    again = run("evaluate", "r/model.safetensors", "out.extxyz", "--energy-key", "energy", "--json")
    assert json.loads(again.out)["errors"]["all"]["dipole_mae"] == pytest.approx(0, abs=1e-6)  # its own predictions


def test_charges_without_labels_are_one_line(run: Run, data: Path) -> None:
    result = run("train", "--train", data, "--charges", "--max-steps", 1)
    assert result.status == 1
    assert "no structure of the training set has charges" in result.err
    assert result.err.rstrip().rpartition("\n")[2].startswith("error: ")
    assert "no structure has the dipole key 'mu'" in run("train", "--train", data, "--dipole-key", "mu").err


def test_a_packed_set_keeps_them(run: Run, charged: Path) -> None:
    assert run("data", "build", charged, "-o", "set.h5", "--dipole-key", "mu").status == 0
    assert json.loads(run("data", "info", "set.h5", "--json").out)["files"][0]["labels"]["dipole"] == 20
