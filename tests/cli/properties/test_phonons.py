"""`atomsml phonons`: its numbers are those of the library, its file is phonopy's, and what is imaginary is told."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import phonopy
import pytest
from ase.build import bulk
from ase.spacegroup import crystal
from PIL import Image

from atomsml import AtomsMLCalculator
from atomsml.properties.engine import Engine
from atomsml.properties.phonons.harmonic import PhononSettings, phonons
from atomsml.units import KJ_PER_MOL

Run = Callable[..., Any]

OPTIONS = ("-m", "universal-small", "--mesh", 30)


def test_is_what_the_library_finds(run: Run) -> None:
    ase.io.write("NaCl.cif", bulk("NaCl", "rocksalt", a=5.6))
    [record] = json.loads(run("phonons", "NaCl.cif", *OPTIONS, "--json").out)
    engine = Engine.of(AtomsMLCalculator("universal-small"))
    [(_, found)] = phonons([ase.io.read("NaCl.cif")], engine, PhononSettings(mesh=30))
    assert record["heat_capacity"] == pytest.approx(1000 * found.thermal.heat_capacity[30] / KJ_PER_MOL, rel=1e-4)
    assert record["temperatures_K"][30] == 300
    assert record["heat_capacities_J/K/mol"][30] == pytest.approx(record["heat_capacity"])
    assert record["free_energies_kJ/mol"][0] == pytest.approx(record["zero_point"], rel=1e-5)
    assert record["mesh"] == [found.mesh.numbers[0]] * 3
    assert [(each["from"], each["to"]) for each in record["bands"]] == found.bands.ends
    for each, frequencies in zip(record["bands"], found.bands.frequencies, strict=True):
        assert np.array(each["frequencies_THz"]) == pytest.approx(frequencies, abs=0.01)
    assert record["lowest"] == pytest.approx(0, abs=1e-3)
    assert record["notes"] == []
    with Image.open("phonons/NaCl.png") as picture:
        assert picture.width > 500


def test_phonopy_goes_on_with_the_file(run: Run) -> None:
    """A cubic cell of eight atoms: what is told is of eight, and phonopy's is of the primitive two."""
    ase.io.write("NaCl.cif", bulk("NaCl", "rocksalt", a=5.6, cubic=True))
    [record] = json.loads(run("phonons", "NaCl.cif", *OPTIONS, "--supercell", 2, 2, 2, "--json", "--no-pictures").out)
    assert record["supercell_atoms"] == 64
    found = phonopy.load("phonons/NaCl-phonopy.yaml", log_level=0)
    found.run_mesh(30.0, is_gamma_center=True)
    found.run_thermal_properties(temperatures=[300.0], exclude_gamma_acoustic=True)
    assert 4 * found.thermal_properties.heat_capacity[0] == pytest.approx(record["heat_capacity"], rel=1e-5)
    last = record["bands"][-1]
    found.run_qpoints([last["q"][-1]])
    assert last["frequencies_THz"][-1] == pytest.approx(found.qpoints.frequencies[0], abs=1e-4)
    summary = json.loads(Path("phonons/phonons.summary.json").read_text())
    assert any(str(each).count("phonopy.yaml") for each in summary["outputs"])


def test_imaginary_modes_are_told(run: Run) -> None:
    """Of cubic barium titanate, a ferroelectric."""
    atoms = crystal(
        ["Ba", "Ti", "O"], [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0)], spacegroup=221, cellpar=[4, 4, 4, 90, 90, 90]
    )
    ase.io.write("BaTiO3.cif", atoms)
    result = run("phonons", "BaTiO3.cif", *OPTIONS, "--length", 8, "--no-pictures")
    assert result.status == 0
    assert "note: BaTiO3.cif, frame 0: imaginary modes: 3 at Γ (from -" in result.err
    assert "of the modes have no real frequency" in result.err
    assert "less than twice the model's cutoff of 5 A" in result.err
    [record] = json.loads(Path("phonons/phonons.json").read_text())
    assert record["lowest"] < -2
    assert record["imaginary"][0]["where"] == "at Γ"
    assert "imaginary modes" in Path("phonons/phonons.csv").read_text()


def test_bad_supercells_are_refused_before_anything_is_read(run: Run) -> None:
    result = run("phonons", "none.cif", "--supercell", 2, 0, 2)
    assert result.status == 1
    assert result.err == "error: a supercell is three numbers of at least 1, got (2, 0, 2)\n"


def test_without_phonopy_one_line_says_what_to_install(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    ase.io.write("Si.cif", bulk("Si"))
    for name in [name for name in sys.modules if name.startswith("atomsml.properties.phonons")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "phonopy", None)
    for command in ("phonons", "qha"):
        result = run(command, "Si.cif")
        assert result.status == 1
        assert result.err == 'error: phonons need phonopy and seekpath; run `pip install "atomsml[phonons]"`\n'
