"""`atomsml vacancy`: its numbers are those of the library."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import ase.io
import pytest
from ase.build import bulk

from atomsml import AtomsMLCalculator
from atomsml.properties.engine import Engine
from atomsml.properties.vacancy import VacancySettings, vacancies

Run = Callable[..., Any]


def alloy() -> ase.Atoms:
    atoms = bulk("W", cubic=True)
    atoms.symbols[0] = "Mo"
    return atoms


def test_is_what_the_library_finds(run: Run) -> None:
    ase.io.write("W.cif", bulk("W"))
    [record] = json.loads(run("vacancy", "W.cif", "--length", 6, "--json").out)
    engine = Engine.of(AtomsMLCalculator("refractory-pbe"))
    [(_, found)] = vacancies([bulk("W")], engine, VacancySettings(6))
    [vacancy] = record["vacancies"]
    assert vacancy["energy"] == pytest.approx(found.vacancies[0].energy, abs=1e-3)
    assert (vacancy["atoms"], record["supercell_atoms"], vacancy["site"]) == (15, 16, "2a")
    whole = ase.io.read("vacancy/W-supercell.extxyz").get_potential_energy()
    without = ase.io.read("vacancy/W-vacancies.extxyz").get_potential_energy()
    assert vacancy["energy"] == pytest.approx(without - 15 / 16 * whole, abs=1e-5)


def test_a_compound_needs_references_and_they_are_relaxed(run: Run) -> None:
    ase.io.write("MoW.cif", alloy())
    ase.io.write("W.cif", bulk("W", a=3.1))
    ase.io.write("Mo.cif", bulk("Mo"))
    refused = run("vacancy", "MoW.cif", "--length", 5)
    assert refused.status == 1
    assert "has several elements, and there is no reference of the element Mo or W" in refused.err
    words = ("-r", "W.cif", "-r", "Mo.cif", "--length", 5, "--json")
    [record] = json.loads(run("vacancy", "MoW.cif", *words, "-o", "out").out)
    assert {each["element"] for each in record["vacancies"]} == {"Mo", "W"}
    [eos] = json.loads(run("eos", "W.cif", "--volumes", 5, "--json").out)
    assert record["chemical_potentials_eV"]["W"] == pytest.approx(eos["energy_per_atom"], abs=2e-3)
