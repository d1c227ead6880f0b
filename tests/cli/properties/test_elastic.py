"""`atomsml elastic`: its numbers are those of the library, and what it says of crystals that are none of the good."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase.build import bulk, molecule
from PIL import Image

from atomsml import AtomsMLCalculator
from atomsml.cli.properties.elastic import notes
from atomsml.properties.elasticity.elastic import AT_REST, ElasticConstants, elastic_constants
from atomsml.properties.elasticity.tensor import ElasticTensor
from atomsml.properties.engine import Engine

SMALL = AtomsMLCalculator("universal-small", device="cpu")
Run = Callable[..., Any]


def test_is_what_the_library_finds(run: Run) -> None:
    alloy = bulk("W", cubic=True)
    alloy.symbols[0] = "Ta"
    ase.io.write("TaW.cif", alloy)
    [record] = json.loads(run("elastic", "TaW.cif", "--json").out)
    [(_, found)] = elastic_constants([alloy], Engine.of(AtomsMLCalculator("refractory-pbe")))
    assert isinstance(found, ElasticConstants)
    assert np.allclose(record["tensor_GPa"], found.tensor.voigt, atol=0.01)
    assert record["bulk_modulus"] == pytest.approx(found.tensor.bulk, rel=1e-4)
    assert record["debye_temperature"] == pytest.approx(found.debye_temperature, rel=1e-4)
    assert record["stable"] is True
    assert record["notes"] == []
    written = ase.io.read("elastic/TaW-relaxed.extxyz")
    assert np.allclose(written.cell.array, record["cell_A"], atol=1e-6)
    with Image.open("elastic/TaW.png") as picture:
        assert picture.width > 2 * picture.height


def test_clamped_and_strains_and_without_symmetry(run: Run) -> None:
    """Atoms that may not move make a crystal stiffer; of bcc they have nowhere to go."""
    ase.io.write("Ti.cif", bulk("Ti"))
    options = ("Ti.cif", "-m", "universal-small", "--json", "--no-pictures")
    [free] = json.loads(run("elastic", *options).out)
    [clamped] = json.loads(run("elastic", *options, "--clamped", "-o", "clamped").out)
    [whole] = json.loads(run("elastic", *options, "--no-symmetry", "--magnitudes", 1, "-o", "whole").out)
    assert clamped["shear_modulus"] > 1.02 * free["shear_modulus"]
    assert free["strains"] == ["xx", "zz", "yz"]
    assert whole["independent"] == 21
    assert whole["shear_modulus"] == pytest.approx(free["shear_modulus"], rel=0.01)


def test_an_unstable_crystal_is_told(run: Run) -> None:
    ase.io.write("Cu.cif", bulk("Cu", "sc", a=2.4))
    result = run("elastic", "Cu.cif", "-m", "universal-small")
    assert result.status == 0
    assert "note: Cu.cif, frame 0: not stable: a strain lowers its energy" in result.err
    [record] = json.loads(Path("elastic/elastic.json").read_text())
    assert record["shear_modulus"] is None
    assert record["stable"] is False
    assert not Path("elastic/Cu.png").exists()


def test_what_is_no_crystal_or_not_at_rest_is_refused_in_one_line_each(run: Run) -> None:
    ase.io.write("water.xyz", molecule("H2O"))
    ase.io.write("pressed.cif", bulk("W", a=3.0))
    ase.io.write("rest.extxyz", next(Engine.of(SMALL).relax([bulk("W")], AT_REST.settings)).atoms)
    result = run("elastic", "water.xyz", "pressed.cif", "rest.extxyz", "-m", "universal-small", "--no-relax")
    assert result.status == 1
    assert "refused: water.xyz, frame 0: elastic constants are of a crystal" in result.err
    assert "refused: pressed.cif, frame 0: is not at rest in its cell" in result.err
    assert len(json.loads(Path("elastic/elastic.json").read_text())) == 1


def test_options_that_make_no_sense_are_refused_in_one_line(run: Run) -> None:
    ase.io.write("W.cif", bulk("W"))
    result = run("elastic", "W.cif", "--strain", 0.5)
    assert result.status == 1
    assert "the strain must be above 0 and at most 0.1, got 0.5" in result.err
    assert not Path("elastic").exists()


@pytest.mark.parametrize(
    ("shear", "residual", "stress", "words"),
    [
        (50.0, 0.001, 0.01, []),
        (50.0, 0.05, 0.01, ["the fit misses 5.0% of the stresses"]),
        (1.0, 0.01, 0.01, ["hardly stable"]),
        (1.0, 0.001, 0.5, ["a stress of 0.5 GPa is left"]),
        (-1.0, 0.001, 0.01, ["not stable"]),
    ],
)
def test_notes(shear: float, residual: float, stress: float, words: list[str]) -> None:
    tensor = ElasticTensor(np.diag([100.0, 100, 100, shear, shear, shear]) + np.pad(np.full((3, 3), 50.0), (0, 3)))
    found = notes(ElasticConstants(bulk("W"), tensor, 3, ("xx", "yz"), residual, stress))
    assert len(found) == len(words)
    assert all(word in note for word, note in zip(words, found, strict=True))
