"""`atomsml ts`: from a guess, and from a band whose ends it compares."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import pytest
from ase.build import molecule
from PIL import Image

Run = Callable[..., Any]


def flat_ammonia() -> ase.Atoms:
    atoms = molecule("NH3")
    atoms.positions[0, 2] = atoms.positions[1, 2] + 0.1
    return atoms


def test_from_a_guess(run: Run) -> None:
    ase.io.write("flat.xyz", flat_ammonia())
    [record] = json.loads(run("ts", "flat.xyz", "--json").out)
    assert 700 < record["imaginary_frequency"] < 1100
    assert record["frequencies_per_cm"][0] == -record["imaginary_frequency"]
    assert record["frequencies_per_cm"][1] > 0
    assert record["first_barrier"] == pytest.approx(record["second_barrier"], abs=1e-3)
    assert record["is_expected"] is None
    way = ase.io.read("ts/flat-irc.extxyz", ":")
    energies = [image.get_potential_energy() for image in way]
    assert len(way) == sum(len(each["energies_eV"]) for each in record["ways"]) - 1
    assert max(energies) == pytest.approx(record["energy"], abs=1e-6)
    assert len(ase.io.read("ts/flat-minima.extxyz", ":")) == 2
    with Image.open("ts/flat.png") as picture:
        assert picture.width > 500


def test_from_a_band(run: Run) -> None:
    up, down = molecule("NH3"), molecule("NH3")
    down.positions[:, 2] *= -1
    ase.io.write("ends.extxyz", [up, down])
    [band] = json.loads(run("neb", "ends.extxyz", "--images", 3, "--json").out)
    [record] = json.loads(run("ts", "--path", "neb/ends-band.extxyz", "--json").out)
    assert record["is_expected"] is True
    assert record["notes"] == []
    assert record["first_barrier"] == pytest.approx(band["barrier"], abs=1e-3)
    ase.io.write("other.extxyz", [*ase.io.read("neb/ends-band.extxyz", ":")[:-1], up])  # and back to where it began
    result = run("ts", "--path", "other.extxyz", "--json", "-o", "other")
    [other] = json.loads(result.out)
    assert other["is_expected"] is False
    assert "note: other.extxyz, frame 0: the minima are not those of the path" in result.err


def test_what_finds_none_is_refused(run: Run) -> None:
    ase.io.write("water.xyz", molecule("H2O"))
    ase.io.write("flat.xyz", flat_ammonia())
    result = run("ts", "water.xyz", "flat.xyz", "--steps", 5)
    assert result.status == 1
    assert "refused: water.xyz, frame 0: " in result.err
    assert len(json.loads(Path("ts/ts.json").read_text())) == 1
    single = run("ts", "--path", "flat.xyz", "-o", "single")
    assert single.status == 1
    assert "a path has images between its end points, and this has none" in single.err
