"""`atomsml formation`: its numbers are those of the library, references of files, folders and tables."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import pytest
from ase.build import bulk, molecule

from atomsml import AtomsMLCalculator
from atomsml.properties.engine import Engine
from atomsml.properties.formation import formation_energies
from atomsml.properties.references import relaxed_references
from atomsml.properties.task import Start

Run = Callable[..., Any]


def alloy(size: int) -> ase.Atoms:
    """MoW, MoW3, ..."""
    atoms = bulk("W", cubic=True) * (size, 1, 1)
    atoms.symbols[0] = "Mo"
    return atoms


@pytest.fixture
def files(run: Run) -> None:
    Path("elements").mkdir()
    ase.io.write("elements/W.cif", bulk("W"))
    ase.io.write("elements/Mo.cif", bulk("Mo"))
    ase.io.write("elements/Cu.cif", bulk("Cu"))  # which the model does not know, and is not asked for
    ase.io.write("alloys.extxyz", [alloy(1), alloy(2)])


@pytest.mark.usefixtures("files")
def test_is_what_the_library_finds(run: Run) -> None:
    records = json.loads(run("formation", "alloys.extxyz", "-r", "elements", "--json").out)
    engine, start = Engine.of(AtomsMLCalculator("refractory-pbe")), Start(cell=True)
    references = relaxed_references({"W": bulk("W"), "Mo": bulk("Mo")}, engine, start)
    found = dict(formation_energies([alloy(1), alloy(2)], references, engine, start))
    for i, record in enumerate(records):
        assert record["formation_energy"] == pytest.approx(found[i].energy, abs=1e-4)
        assert record["above_hull"] == pytest.approx(found[i].above_hull, abs=1e-4)
    assert "belongs to their hull" in records[0]["notes"][0]
    assert [each["formula"] for each in records[0]["hull"]] == ["Mo", "W"]
    assert Path("formation/alloys-0.png").exists()


@pytest.mark.usefixtures("files")
def test_a_compound_among_the_references_is_on_the_hull(run: Run) -> None:
    ase.io.write("MoW.cif", alloy(1))
    words = ("-r", "elements", "-r", "MoW.cif", "--json")
    records = json.loads(run("formation", "alloys.extxyz", *words).out)
    assert records[0]["above_hull"] == pytest.approx(0, abs=1e-4)
    assert records[1]["above_hull"] > 0
    assert records[1]["mixture"] == "0.5 MoW + 0.5 W"


@pytest.mark.usefixtures("files")
def test_a_table_of_energies_is_used_and_told(run: Run) -> None:
    Path("table.csv").write_text("composition,energy\nMo2,-20\nW,-12\n")
    [record, _] = json.loads(run("formation", "alloys.extxyz", "-r", "table.csv", "--json").out)
    assert record["formation_energy"] == pytest.approx(record["energy_per_atom"] + 11, abs=1e-6)
    assert record["notes"][0] == "energies of a table are used: they must be of this very model"


@pytest.mark.usefixtures("files")
def test_an_element_without_reference_is_refused(run: Run) -> None:
    result = run("formation", "alloys.extxyz", "-r", "elements/W.cif")
    assert result.status == 1
    assert "alloys.extxyz, frame 0: there is no reference of the element Mo; give a structure of it" in result.err


@pytest.mark.usefixtures("files")
def test_a_molecule_among_the_references_is_told(run: Run) -> None:
    ase.io.write("Cl2.xyz", molecule("Cl2"))
    ase.io.write("Na.cif", bulk("Na"))
    ase.io.write("NaCl.cif", bulk("NaCl", "rocksalt", a=5.6))
    [record] = json.loads(run("formation", "NaCl.cif", "-r", "Cl2.xyz", "-r", "Na.cif", "--json").out)
    assert record["formation_energy"] < -1
    assert record["notes"][0].startswith("Cl2.xyz, frame 0 is no crystal")


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("composition,energy\nMoo,1\n", "'Moo', '1' is no composition with an energy in eV"),
        ("a,b\n1,2\n", "is no table of references"),
    ],
)
def test_a_table_that_is_none_is_refused(run: Run, text: str, message: str) -> None:
    Path("table.csv").write_text(text)
    result = run("formation", "alloys.extxyz", "-r", "table.csv")
    assert result.status == 1
    assert message in result.err
    assert not Path("formation").exists()


@pytest.mark.usefixtures("files")
def test_other_references_do_not_resume(run: Run) -> None:
    """A file of somebody else stops the run at the second alloy; its reference is another one when it is to go on."""
    Path("formation").mkdir()
    Path("formation/alloys-1-relaxed.extxyz").write_text("mine")
    words = ("formation", "alloys.extxyz", "-r", "elements", "--no-pictures")
    assert run(*words).status == 1
    Path("formation/alloys-1-relaxed.extxyz").unlink()
    ase.io.write("elements/W.cif", bulk("W", "fcc", a=4.0))
    refused = run(*words, "--resume")
    assert refused.status == 1
    assert "is of a run with other structures in its options, or some that were changed since" in refused.err
    ase.io.write("elements/W.cif", bulk("W"))
    assert run(*words, "--resume").status == 0
