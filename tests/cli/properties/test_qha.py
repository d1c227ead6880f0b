"""`atomsml qha`: its numbers are those of the library, and where they end is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import ase.io
import pytest
from ase.build import bulk
from PIL import Image

from atomsml import AtomsMLCalculator
from atomsml.properties.engine import Engine
from atomsml.properties.phonons.harmonic import PhononSettings
from atomsml.properties.qha import QhaSettings, quasi_harmonic
from atomsml.units import KJ_PER_MOL

Run = Callable[..., Any]

OPTIONS = ("--length", 8, "--mesh", 20, "--volumes", 5)


def test_is_what_the_library_finds(run: Run) -> None:
    ase.io.write("W.cif", bulk("W"))
    [record] = json.loads(run("qha", "W.cif", *OPTIONS, "-m", "refractory-pbe", "--t-max", 400, "--json").out)
    settings = QhaSettings(PhononSettings(length=8, mesh=20, t_max=400), volumes=5)
    [(_, found)] = quasi_harmonic([bulk("W")], Engine.of(AtomsMLCalculator("refractory-pbe")), settings)
    assert record["volume"] == pytest.approx(found.volume[30], rel=1e-5)
    assert record["expansion"] == pytest.approx(1e6 * found.expansion[30], rel=1e-3)
    assert record["bulk_modulus"] == pytest.approx(found.bulk_modulus[30], rel=1e-3)
    assert record["heat_capacity"] == pytest.approx(1000 * found.heat_capacity[30] / KJ_PER_MOL, rel=1e-4)
    assert record["hottest"] == 400
    assert record["notes"] == []
    with Image.open("qha/W.png") as picture:
        assert picture.width > 500


def test_temperatures_without_a_volume_are_told(run: Run) -> None:
    ase.io.write("NaCl.cif", bulk("NaCl", "rocksalt", a=5.6))
    result = run("qha", "NaCl.cif", *OPTIONS, "-m", "universal-small", "--high", 1.04, "--json", "--no-pictures")
    [record] = json.loads(result.out)
    assert record["hottest"] < 300
    assert record["volume"] is None
    assert len(record["volumes_A^3"]) == len(record["temperatures_K"])
    assert f"nothing is told above {record['hottest']:g} K" in result.err
