"""`atomsml vibrations`: what is written, and what is said of structures that are no minima."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase.build import bulk, molecule

Run = Callable[..., Any]


def test_is_what_the_library_finds(run: Run) -> None:
    records = json.loads(run("vibrations", "O", "CCO", "--json").out)
    assert [len(each["frequencies_cm^-1"]) for each in records] == [3, 21]
    assert records[0]["symmetry_number"] == 2
    assert records[0]["entropy"] == pytest.approx(188.8 / 96.485, abs=0.01)  # published, J/mol/K
    modes = ase.io.read("vibrations/CCO-modes.extxyz", ":")
    assert [frame.info["frequency_cm^-1"] for frame in modes] == pytest.approx(records[1]["frequencies_cm^-1"])
    assert np.linalg.norm(modes[3].arrays["mode"]) == pytest.approx(1)
    assert Path("vibrations/O.png").exists()


def test_a_saddle_point_is_told(run: Run) -> None:
    ammonia = molecule("NH3")
    ammonia.positions[:, 2] = 0
    ase.io.write("planar.xyz", ammonia)
    result = run("vibrations", "planar.xyz", "--no-relax", "--fmax", 9)
    assert result.status == 0
    assert "note: planar.xyz, frame 0: not a minimum: mode 0 at " in result.err
    assert "imaginary modes are left out" in result.err
    refused = run("vibrations", "planar.xyz", "--no-relax", "-o", "again")
    assert refused.status == 1
    assert "is no minimum of this model" in refused.err


def test_held_atoms_do_not_vibrate(run: Run) -> None:
    ase.io.write("pair.xyz", molecule("CH3CH2OH"))
    [record] = json.loads(run("vibrations", "pair.xyz", "--fix", "C", "--json").out)
    assert len(record["frequencies_cm^-1"]) == 21
    assert (record["removed_modes"], record["symmetry_number"], record["enthalpy"]) == (0, None, None)


def test_crystals_are_refused(run: Run) -> None:
    ase.io.write("salt.cif", bulk("NaCl", "rocksalt", a=5.6))
    result = run("vibrations", "salt.cif")
    assert result.status == 1
    assert "crystals have phonons (`atomsml phonons`)" in result.err
