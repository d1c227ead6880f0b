"""`atomsml surface`: its numbers are those of the library, a row for each surface."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from typing import Any

import ase.io
import numpy as np
import pytest
from ase.build import bulk, molecule
from PIL import Image

from atomsml import AtomsMLCalculator
from atomsml.properties.engine import Engine
from atomsml.properties.surfaces.slabs import SlabSettings
from atomsml.properties.surfaces.surface import surface_energies

Run = Callable[..., Any]


def test_is_what_the_library_finds(run: Run) -> None:
    ase.io.write("W.cif", bulk("W"))
    result = run("surface", "W.cif", "--thickness", 6, "--json")
    [record] = json.loads(result.out)
    engine = Engine.of(AtomsMLCalculator("refractory-pbe"))
    [(_, found)] = surface_energies([bulk("W")], engine, SlabSettings(thickness=6))
    energies = {each.slab.name: each.energy for each in found.surfaces}
    assert {each["surface"]: each["energy_eV"] for each in record["surfaces"]} == pytest.approx(energies, rel=1e-4)
    for each in record["surfaces"]:
        assert each["energy"] == pytest.approx(16.0218 * each["energy_eV"], rel=1e-4)
    assert sum(each["share"] for each in record["surfaces"]) == pytest.approx(1)
    with open("surface/surface.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["surface"] for row in rows] == [each["surface"] for each in record["surfaces"]]
    assert [float(row["energy J/m^2"]) for row in rows] == [each["energy"] for each in record["surfaces"]]
    slabs = ase.io.read("surface/W-slabs.extxyz", ":")
    assert [len(slab) for slab in slabs] == [each["atoms"] for each in record["surfaces"]]
    bulk_energy = record["bulk_energy_eV/atom"]
    for slab, each in zip(slabs, record["surfaces"], strict=True):
        excess = slab.get_potential_energy() - bulk_energy * len(slab)
        assert excess / 2 / each["area_A^2"] == pytest.approx(each["energy_eV"], rel=1e-5)
    with Image.open("surface/W.png") as picture:
        assert picture.width > 500


def test_named_planes_and_what_is_held(run: Run) -> None:
    ase.io.write("W.cif", bulk("W"))
    words = ("--miller", "1,0,0", "--miller=-1,1,0", "--thickness", 6, "--hold", "middle", "--no-pictures", "--json")
    [record] = json.loads(run("surface", "W.cif", *words).out)
    assert {each["surface"] for each in record["surfaces"]} == {"100", "-110"}
    for slab in ase.io.read("surface/W-slabs.extxyz", ":"):
        depth = slab.positions[:, 2] - slab.positions[:, 2].mean()
        [constraint] = slab.constraints
        assert np.abs(depth[constraint.index]).max() < np.abs(np.delete(depth, constraint.index)).min()


def test_faces_that_differ_are_told(run: Run) -> None:
    alloy = bulk("W", cubic=True)
    alloy.symbols[0] = "Mo"
    ase.io.write("MoW.cif", alloy)
    result = run("surface", "MoW.cif", "--miller", "1,0,0", "--thickness", 5, "--no-pictures")
    assert result.status == 0
    assert "note: MoW.cif, frame 0: surface 100: its two faces differ, and the energy is the mean of both" in result.err
    refused = run("surface", "MoW.cif", "--miller", "1,0,0", "--thickness", 5, "--hold", "bottom")
    assert refused.status == 1
    assert "the two faces of the slab 100 differ" in refused.err


@pytest.mark.parametrize("word", ["1,1", "a,b,c", "1,1,1,1", "111"])
def test_indices_that_are_none_are_refused(run: Run, word: str) -> None:
    ase.io.write("W.cif", bulk("W"))
    result = run("surface", "W.cif", "--miller", word)
    assert result.status == 1
    assert (
        result.err == f"error: --miller is three integers such as 1,1,0, or four of a hexagonal crystal, got {word!r}\n"
    )


def test_four_indices_of_a_hexagonal_crystal(run: Run) -> None:
    ase.io.write("Ti.cif", bulk("Ti"))
    words = ("--miller", "0,0,0,1", "--thickness", 4, "--no-pictures", "--json")
    [record] = json.loads(run("surface", "Ti.cif", *words).out)
    assert [each["miller"] for each in record["surfaces"]] == [[0, 0, 1]]


def test_a_molecule_is_refused(run: Run) -> None:
    ase.io.write("water.xyz", molecule("H2O"))
    result = run("surface", "water.xyz", "-m", "universal-small")
    assert result.status == 1
    assert "surfaces are cut from a crystal that is periodic along all three axes" in result.err
