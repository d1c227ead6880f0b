"""`atomsml adsorb`: its numbers are those of the library, and it tells what became of each start."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from typing import Any

import ase.io
import pytest
from ase import Atoms
from ase.build import bcc110, bulk

from atomsml import AtomsMLCalculator
from atomsml.properties.engine import Engine
from atomsml.properties.surfaces.adsorb import AdsorbSettings, adsorption_energies
from atomsml.properties.task import Start

Run = Callable[..., Any]


def slab() -> Atoms:
    return bcc110("W", (1, 1, 3), vacuum=8)


def test_is_what_the_library_finds(run: Run) -> None:
    ase.io.write("slab.extxyz", slab())
    words = ("-a", "[Mo]", "--length", 5)
    result = run("adsorb", "slab.extxyz", *words, "--json")
    assert result.status == 0
    [record] = json.loads(result.out)
    engine = Engine.of(AtomsMLCalculator("refractory-pbe"))
    settings, start = AdsorbSettings(length=5), Start(fmax=0.02, cell=True)
    [(_, found)] = adsorption_energies([slab()], Atoms("Mo"), engine, settings, start)
    mine = [each["energy"] for each in record["found"]]
    assert mine == pytest.approx([each.energy for each in found.found], abs=1e-3)
    assert mine == sorted(mine)
    assert "adsorbate: Mo, 1 atom\n" in result.err
    assert "energies are those of lone atoms of Mo" in record["notes"][0]
    with open("adsorb/adsorb.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["adsorption energy eV"]) for row in rows] == mine
    frames = ase.io.read("adsorb/slab-adsorbed.extxyz", ":")
    clean, alone = ase.io.read("adsorb/slab-clean.extxyz"), ase.io.read("adsorb/slab-alone.extxyz")
    for frame, each in zip(frames, record["found"], strict=True):
        whole = clean.get_potential_energy() + alone.get_potential_energy()
        assert frame.get_potential_energy() - whole == pytest.approx(each["energy"], abs=1e-5)


def test_starts_without_a_minimum_are_told_and_the_others_written(run: Run) -> None:
    ase.io.write("slab.extxyz", slab())
    words = ("-a", "[Mo]", "--length", 3, "--fmax", 0.05, "--no-pictures")
    result = run("adsorb", "slab.extxyz", *words, "--steps", 12)
    assert result.status == 1
    with open("adsorb/adsorb.json") as file:
        [record] = json.load(file)
    lost = [each for each in record["found"] if not each["converged"]]
    assert 0 < len(lost) == len(record["unfinished"]) < len(record["found"])
    assert all(each["energy"] is None for each in lost)
    told = [line for line in result.err.splitlines() if line.startswith("unfinished: slab.extxyz, frame 0: put on ")]
    assert len(told) == len(lost)
    assert all("found no minimum: out of steps" in line and line.endswith("it may be the lowest") for line in told)
    with open("adsorb/adsorb.summary.json") as file:
        [failed] = json.load(file)["failed"]
    assert failed["unfinished"] == record["unfinished"]


def test_the_model_that_is_chosen_knows_what_adsorbs(run: Run) -> None:
    """Of tungsten alone it would be refractory-pbe, which does not know oxygen."""
    ase.io.write("slab.extxyz", slab())
    words = ("-a", "[O]", "--length", 3, "--fmax", 0.1, "--no-pictures", "--json")
    result = run("adsorb", "slab.extxyz", *words)
    assert result.status == 0
    assert "model: universal-small" in result.err
    refused = run("adsorb", "slab.extxyz", *words, "-m", "refractory-pbe")
    assert refused.status == 1
    assert refused.err.splitlines()[-1].startswith("error: the model does not know O")


def test_crystals_are_cut_and_a_model_of_crystals_is_told_of_molecules(run: Run) -> None:
    ase.io.write("W.cif", bulk("W"))
    words = ("-a", "[C-]#[O+]", "--miller", "1,0,0", "--thickness", 4, "--length", 3, "--fmax", 0.2, "--json")
    [record] = json.loads(run("adsorb", "W.cif", *words).out)
    assert {each["surface"] for each in record["found"]} == {"100"}
    assert {each["orientation"] for each in record["found"]} == {1, 2, 3}
    assert record["notes"][0] == "this model was made for crystals: check its energy of CO alone"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("W.cif", "-a", "[Mo]"), "a slab has a vacuum of 5 A and more along its third axis"),
        (("slab.extxyz", "-a", "nothing.xyz"), "no file 'nothing.xyz', check the path"),
        (("slab.extxyz", "-a", "W.cif"), "what adsorbs is a molecule or an atom, and not periodic"),
        (("slab.extxyz", "-a", "two.extxyz"), "the adsorbate two.extxyz is 2 structures; give one"),
        (("slab.extxyz", "-a", "[W]", "--height", 0), "the height above the surface is between 0 and 10 A"),
    ],
    ids=["crystal", "no adsorbate", "periodic adsorbate", "two adsorbates", "no height"],
)
def test_what_makes_no_sense_is_refused(run: Run, words: tuple[object, ...], message: str) -> None:
    ase.io.write("W.cif", bulk("W"))
    ase.io.write("slab.extxyz", slab())
    ase.io.write("two.extxyz", [Atoms("Mo"), Atoms("W")])
    result = run("adsorb", *words)
    assert result.status == 1
    assert message in result.err
    assert len([line for line in result.err.splitlines() if line.startswith("error")]) == 1
