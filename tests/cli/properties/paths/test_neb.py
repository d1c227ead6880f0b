"""`atomsml neb`: its numbers are those of the library; what is no pair of end points is refused."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import pytest
from ase.build import molecule
from PIL import Image

from atomsml import AtomsMLCalculator
from atomsml.properties.engine import Engine
from atomsml.properties.paths.neb import NebSettings, elastic_bands

Run = Callable[..., Any]


@pytest.fixture
def ammonia(run: Run) -> tuple[ase.Atoms, ase.Atoms]:
    """Two files in the folder of the test."""
    up, down = molecule("NH3"), molecule("NH3")
    down.positions[:, 2] *= -1
    ase.io.write("up.xyz", up)
    ase.io.write("down.xyz", down)
    return up, down


def test_is_what_the_library_finds(run: Run, ammonia: tuple[ase.Atoms, ase.Atoms]) -> None:
    [record] = json.loads(run("neb", "up.xyz", "down.xyz", "--images", 5, "--json").out)
    engine = Engine.of(AtomsMLCalculator("organic-xtb"))
    [(_, found)] = elastic_bands([ammonia], engine, NebSettings(images=5))
    assert record["barrier"] == pytest.approx(found.barrier, abs=1e-4)
    assert record["energies_eV"] == pytest.approx(found.energies, abs=1e-4)
    assert (record["top"], record["climbed"], record["notes"]) == (3, True, [])
    with Path("neb/neb.csv").open(newline="") as file:
        [row] = csv.DictReader(file)
    assert float(row["barrier eV"]) == record["barrier"]
    band = ase.io.read("neb/up-band.extxyz", ":")
    assert [image.get_potential_energy() for image in band] == pytest.approx(record["energies_eV"], abs=1e-6)
    assert ase.io.read("neb/up-top.extxyz").positions == pytest.approx(band[3].positions)
    with Image.open("neb/up.png") as picture:
        assert picture.width > 500


def test_a_band_goes_on_from_its_file(run: Run, ammonia: tuple[ase.Atoms, ase.Atoms]) -> None:
    [first] = json.loads(run("neb", "up.xyz", "down.xyz", "--images", 3, "--json", "-o", "first").out)
    [again] = json.loads(run("neb", "--path", "first/up-band.extxyz", "--json", "-o", "again").out)
    assert again["barrier"] == pytest.approx(first["barrier"], abs=1e-3)
    assert len(again["energies_eV"]) == 5


def test_pairs_of_one_file_and_shards(run: Run, ammonia: tuple[ase.Atoms, ase.Atoms]) -> None:
    up, down = ammonia
    flatter = up.copy()
    flatter.positions[0, 2] += 0.05
    ase.io.write("ends.extxyz", [up, down, flatter, down])
    whole = json.loads(run("neb", "ends.extxyz", "--images", 3, "--json").out)
    assert [each["index"] for each in whole] == [0, 2]
    assert Path("neb/ends-2-band.extxyz").exists()
    [part] = json.loads(run("neb", "ends.extxyz", "--images", 3, "--json", "--shard", "1/2", "-o", "part").out)
    assert part["index"] == 2
    assert part["barrier"] == pytest.approx(whole[1]["barrier"], abs=1e-4)
    assert Path("part/ends-2-band.extxyz").exists()


def test_what_is_no_pair_is_named_and_the_others_are_done(run: Run, ammonia: tuple[ase.Atoms, ase.Atoms]) -> None:
    ase.io.write("water.xyz", molecule("H2O"))
    result = run("neb", "up.xyz", "water.xyz", "up.xyz", "down.xyz", "up.xyz", "--images", 3, "--json")
    assert result.status == 1
    assert "refused: up.xyz, frame 0: a path is of the same atoms all along" in result.err
    assert "has no other end point; end points are given two by two" in result.err
    assert len(list(Path("neb").glob("*-band.extxyz"))) == 1


def test_atoms_in_other_order_are_one_clear_line(run: Run, ammonia: tuple[ase.Atoms, ase.Atoms]) -> None:
    _, down = ammonia
    ase.io.write("down.xyz", down[[1, 0, 2, 3]])
    result = run("neb", "up.xyz", "down.xyz")
    assert result.status == 1
    assert result.err.strip().splitlines()[-1].startswith("error: up.xyz, frame 0: atom 0 is N in the first end point")
    assert not Path("neb/neb.csv").exists()
    assert run("neb", "up.xyz", "down.xyz", "--images", 3, "--order", "reorder").status == 0


def test_a_band_that_does_not_converge_fails(run: Run, ammonia: tuple[ase.Atoms, ase.Atoms]) -> None:
    result = run("neb", "up.xyz", "down.xyz", "--steps", 1)
    assert result.status == 1
    assert "the band is not converged: after 1 steps a force is" in result.err
    assert not Path("neb/neb.csv").exists()


def test_settings_that_make_no_sense_are_one_line(run: Run, ammonia: tuple[ase.Atoms, ase.Atoms]) -> None:
    result = run("neb", "up.xyz", "down.xyz", "--images", 0)
    assert result.status == 1
    assert result.err.strip() == "error: images must be at least 1, got 0"
