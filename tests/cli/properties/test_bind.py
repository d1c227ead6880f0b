"""`atomsml bind`: its numbers are those of the library, and what must be known of them is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import pytest
from ase.build import molecule

from atomsml import AtomsMLCalculator
from atomsml.properties.bind.interaction import BindSettings, interactions
from atomsml.properties.bind.separation import Separations
from atomsml.properties.engine import Engine
from atomsml.properties.task import Start
from atomsml.units import KCAL

Run = Callable[..., Any]


def waters(distance: float = 2.9) -> ase.Atoms:
    other = molecule("H2O")
    other.translate([0, 0.3, distance])
    return molecule("H2O") + other


def test_is_what_the_library_finds(run: Run) -> None:
    waters().write("waters.xyz")
    [record] = json.loads(run("bind", "waters.xyz", "--curve", "0.9,2.0,5", "--json").out)
    engine = Engine.of(AtomsMLCalculator("organic-xtb"))
    [(_, found)] = interactions([waters()], engine, BindSettings(curve=Separations(0.9, 2.0, 5)))
    assert found.deformation is not None
    assert found.binding is not None
    assert found.curve is not None
    assert record["fragments"] == "2 H2O"
    assert record["interaction"] == pytest.approx(found.energy, abs=1e-4)
    assert record["interaction_kcal"] == pytest.approx(found.energy / KCAL, abs=3e-3)
    assert record["deformation_kcal"] == pytest.approx(found.deformation / KCAL, abs=3e-3)
    assert record["binding_kcal"] == pytest.approx(found.binding / KCAL, abs=3e-3)
    assert record["curve"]["interactions_eV"] == pytest.approx(found.curve.energies, abs=1e-4)
    assert record["curve"]["distance_of_the_complex_A"] == pytest.approx(record["nearest"], abs=1e-6)
    assert record["notes"] == []
    assert len(ase.io.read("bind/waters-curve.extxyz", ":")) == 5
    assert [len(each) for each in ase.io.read("bind/waters-fragments.extxyz", ":")] == [3, 3]
    assert Path("bind/waters.png").stat().st_size > 0


def test_complexes_as_they_are_have_no_deformation(run: Run) -> None:
    waters().write("waters.xyz")
    [record] = json.loads(run("bind", "waters.xyz", "--no-relax", "--fragments", "0+1+2,3-5", "--json").out)
    engine = Engine.of(AtomsMLCalculator("organic-xtb"))
    [(_, found)] = interactions([waters()], engine, start=Start(relax=False))
    assert record["interaction"] == pytest.approx(found.energy, abs=1e-4)
    assert record["deformation_kcal"] is None is record["binding_kcal"]
    assert sorted(each.name for each in Path("bind").iterdir()) == ["bind.csv", "bind.json", "bind.summary.json"]


def test_what_the_model_cannot_see_is_told(run: Run) -> None:
    waters(9.0).write("far.xyz")
    waters().write("near.xyz")
    result = run("bind", "far.xyz", "near.xyz", "--no-relax", "--curve", "0.5,4,8", "--no-pictures")
    assert result.status == 0
    assert "note: far.xyz, frame 0: H2O is 8.42 A from all others, farther than the model sees (6 A)" in result.err
    assert "note: near.xyz, frame 0: the fragments are bonded to each other up to" in result.err
    assert "nothing acts there but what --d3 adds" in result.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(["--fragments", "0-2;3-5"], "--fragments is a list such as 0-5,6-11", id="fragments"),
        pytest.param(["--fragments", "0-2,3-6"], "see atoms 6", id="no-atom"),
        pytest.param(["--fragments", "2-0,3-5"], "see atoms 0, 1, 2", id="backwards"),
        pytest.param(["--curve", "0.9,2.0"], "--curve is START,STOP,POINTS", id="curve"),
        pytest.param(["--curve", "0.9,2.0,1"], "between 2 and 1000 points, got 1", id="one-point"),
        pytest.param(["--curve", "2,0.9,5"], "from a smaller to a larger multiple", id="descending"),
    ],
)
def test_bad_options_are_one_line(run: Run, options: list[str], message: str) -> None:
    waters().write("waters.xyz")
    result = run("bind", "waters.xyz", *options)
    assert result.status == 1
    assert message in result.err
    assert "Traceback" not in result.err
    assert not list(Path().glob("bind/*"))


def test_one_molecule_is_refused_and_the_others_are_computed(run: Run) -> None:
    molecule("CH3OH").write("methanol.xyz")
    waters().write("waters.xyz")
    result = run("bind", "methanol.xyz", "waters.xyz", "--no-relax")
    assert result.status == 1
    assert "methanol.xyz" in result.err
    assert "it is one molecule, not a complex of several" in result.err
    assert "2 H2O" in result.out


def test_what_is_not_bound_is_told(run: Run) -> None:
    """Hydrogens of ammonia and of hydrogen chloride towards each other."""
    chloride = molecule("HCl")
    chloride.rotate(180, "x")
    chloride.translate([0, 0, 3.2])
    (molecule("NH3") + chloride).write("pair.xyz")
    result = run("bind", "pair.xyz", "--json")
    [record] = json.loads(result.out)
    assert record["fragments"] == "H3N + HCl"
    assert record["binding_kcal"] > 0
    assert record["notes"] == ["it is not bound: apart, its fragments have less energy; start from another geometry"]
