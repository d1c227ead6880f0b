"""`atomsml scan`: its numbers are those of the library, and what it draws and tells."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import pytest

from atomsml import AtomsMLCalculator
from atomsml.io.molecules import atoms_from_smiles
from atomsml.properties.engine import Engine
from atomsml.properties.scan.driven import Driven
from atomsml.properties.scan.scans import ScanSettings, scans
from atomsml.units import KCAL

Run = Callable[..., Any]


def test_is_what_the_library_finds(run: Run) -> None:
    words = ("--torsion", "[H]C[CH2,CH3][H]", "--range", "-180,180,60")
    records = json.loads(run("scan", "CC", "CCC", *words, "--json").out)
    molecules = [atoms_from_smiles(smiles) for smiles in ("CC", "CCC")]
    driven = Driven("torsion", "[H]C[CH2,CH3][H]", -180, 180, 60)
    found = dict(scans(molecules, Engine.of(AtomsMLCalculator("organic-xtb")), ScanSettings((driven,))))
    for i, record in enumerate(records):
        assert record["energies_eV"] == pytest.approx(found[i].energies.tolist(), abs=1e-3)
        height = (found[i].energies.max() - found[i].energies.min()) / KCAL
        assert record["highest"] == pytest.approx(height, abs=0.02)
        assert record["barrier"] == pytest.approx(height, abs=0.02)
        assert len(record["minima"]) == len(record["maxima"]) == 3
        assert any("the pattern fits" in note for note in record["notes"])
        frames = ase.io.read(f"scan/{record['file']}-scan.extxyz", ":")
        energies = [frame.get_potential_energy() for frame in frames]
        assert energies == pytest.approx(record["energies_eV"], abs=1e-6)
        assert Path(f"scan/{record['file']}.png").exists()


def test_maps_have_pictures_minima_and_passes(run: Run) -> None:
    torsions = ("--torsion", "0,1,2,3", "--torsion", "1,2,3,4", "--range=60,300,120", "--range=60,300,120")
    [record] = json.loads(run("scan", "CCCCC", *torsions, "--rigid", "--json").out)
    assert record["points"] == 9
    assert record["minima"][0]["values"] == [180, 180]
    assert record["relaxed"] is False
    assert Path("scan/CCCCC.png").exists()


def test_open_ends_that_are_lowest_are_told(run: Run) -> None:
    words = ("--bond", "0,1", "--angle", "0,1,2", "--range", "110,120,10", "--range", "1.5,1.7,0.1", "--rigid")
    result = run("scan", "CCO", *words, "--no-pictures")
    assert "note: CCO, frame 0: the lowest point is at an end of the range of" in result.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "say what is scanned"),
        (("--bond", "0,1"), "1 coordinates need as many ranges"),
        (("--bond", "0,1", "--range", "1,2"), "three numbers, got '1,2'"),
        (("--torsion", "0,1,2"), "a torsion is of 4 atoms"),
        (("--torsion", "0,1,2,3"), "are of one ring"),
        (("--torsion", "0,1,2,99"), "has no torsion 0-1-2-99"),
    ],
)
def test_what_cannot_be_scanned_is_one_line(run: Run, words: tuple[str, ...], message: str) -> None:
    result = run("scan", "C1CCCCC1", *words)
    assert result.status == 1
    assert message in result.err
    assert not Path("scan/scan.csv").exists()
