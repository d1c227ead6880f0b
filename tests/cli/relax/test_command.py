"""`atomsml relax`: what it writes, and what it says about structures that did not converge."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import units
from ase.build import bulk, molecule
from rdkit import Chem

from atomsml import AtomsMLCalculator
from atomsml.cli.relax.space_group import space_group

Run = Callable[..., Any]


def test_relaxed_structures_are_written_with_their_results(run: Run, model: str) -> None:
    ase.io.write("long.xyz", ase.Atoms("H2", [[0, 0, 0], [0, 0, 1]]))
    result = run("relax", "[H][H]", "long.xyz", "-m", model, "--fmax", 0.01, "--json")
    assert result.status == 0
    records = json.loads(result.out)
    images = ase.io.read("relaxed.extxyz", ":")
    assert [record["formula"] for record in records] == ["H2", "H2"]
    for record, atoms in zip(records, images, strict=True):
        assert record["converged"]
        assert record["reason"] == "converged"
        assert 0 < record["steps"] <= 300
        assert record["energy"] < record["energy_before"]
        fresh = atoms.copy()
        fresh.calc = AtomsMLCalculator(model)
        # positions are written with 8 decimals
        assert fresh.get_potential_energy() == pytest.approx(record["energy"], abs=1e-6)
        assert atoms.get_potential_energy() == pytest.approx(record["energy"], abs=1e-6)
        assert np.linalg.norm(fresh.get_forces(), axis=1).max() < 0.0101
    summary = json.loads(Path("relaxed.summary.json").read_text())
    assert summary["failed"] == []
    assert summary["options"]["fmax"] == 0.01


def test_what_does_not_converge_fails_the_command(run: Run, model: str) -> None:
    result = run("relax", "O", "CO", "-m", model, "--fmax", 1e-8, "--steps", 2)
    assert result.status == 1
    assert result.err.splitlines()[-1] == "2 of 2 structures did not converge"
    assert "no: out of steps" in result.out
    assert len(ase.io.read("relaxed.extxyz", ":")) == 2
    failed = json.loads(Path("relaxed.summary.json").read_text())["failed"]
    assert [(f["file"], f["reason"], f["steps"]) for f in failed] == [
        ("O", "out of steps", 2),
        ("CO", "out of steps", 2),
    ]


def test_cell_changes_only_when_asked(run: Run, model: str) -> None:
    ase.io.write("copper.cif", bulk("Cu", cubic=True))
    volume = ase.io.read("copper.cif").get_volume()
    run("relax", "copper.cif", "-m", model, "--steps", 5, "--fmax", 1e-6, "-o", "fixed.cif")
    assert ase.io.read("fixed.cif").get_volume() == pytest.approx(volume, rel=1e-6)
    run("relax", "copper.cif", "-m", model, "--steps", 5, "--fmax", 1e-6, "--cell", "-o", "free.cif")
    assert abs(ase.io.read("free.cif").get_volume() / volume - 1) > 1e-5


def test_how_the_cell_may_change(run: Run) -> None:
    shaken = bulk("NaCl", "rocksalt", 5.5, cubic=True)
    shaken.set_cell(shaken.cell.array * [[1.02], [1.0], [0.98]], scale_atoms=True)
    ase.io.write("salt.vasp", shaken)
    words = ("relax", "salt.vasp", "-m", "universal-small", "--cell", "--fmax", 0.01, "--json")

    def relaxed(*more: object) -> dict[str, Any]:
        result = run(*words, *more)
        assert result.status == 0
        record: dict[str, Any] = json.loads(result.out)[0]
        return record

    before = shaken.cell.lengths()
    squeezed = relaxed("--pressure", 5)
    assert squeezed["max_stress"] == pytest.approx(abs(squeezed["pressure"] - 5), abs=0.1)
    assert squeezed["pressure"] == pytest.approx(5, abs=0.3)  # fmax allows 0.01 eV x 8 atoms / 160 A^3 in each row
    alike = relaxed("--shape", "isotropic")["cell"]
    assert [alike[axis] for axis in "abc"] / before == pytest.approx(alike["a"] / before[0] * np.ones(3), rel=1e-6)
    assert relaxed("--shape", "volume")["volume"] == pytest.approx(shaken.get_volume(), rel=1e-6)
    held = relaxed("--fixed-axes", "ac")["cell"]
    assert [held["a"], held["c"]] == pytest.approx(before[[0, 2]], rel=1e-6)
    assert abs(held["b"] - before[1]) > 0.01


def test_trajectory_has_every_step(run: Run, model: str) -> None:
    for name in ("steps.traj", "steps.extxyz"):
        result = run("relax", "[H][H]", "-m", model, "--fmax", 0.01, "--trajectory", name, "--json")
        record = json.loads(result.out)[0]
        frames = ase.io.read(name, ":")
        assert len(frames) == record["steps"] + 1
        assert frames[0].get_potential_energy() == pytest.approx(record["energy_before"], abs=1e-6)
        assert frames[-1].get_potential_energy() == pytest.approx(record["energy"], abs=1e-6)


@pytest.mark.parametrize("name", ["out.xyz", "out.traj", "out.vasp", "out.json", "POSCAR"])
def test_suffix_chooses_the_format(run: Run, model: str, name: str) -> None:
    ase.io.write("in.cif", bulk("Cu", cubic=True))
    run("relax", "in.cif", "-m", model, "--steps", 1, "-o", name)
    assert str(ase.io.read(name).symbols) == "Cu4"


def test_an_earlier_output_survives_an_error(run: Run, model: str) -> None:
    Path("relaxed.extxyz").write_text("precious")
    assert run("relax", "nothing.xyz", "-m", model).status == 1
    assert Path("relaxed.extxyz").read_text() == "precious"
    assert [path.name for path in Path().iterdir()] == ["relaxed.extxyz"]


def test_progress_is_plain_lines_in_a_log(run: Run, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ase.io.write("water.xyz", molecule("H2O"))
    for module in ("simulate.progress", "relax.run"):
        monkeypatch.setattr(f"atomsml.cli.{module}.PAUSE", 0.0)
    result = run("relax", "water.xyz", "CO", "-m", model, "--fmax", 1e-9, "--steps", 10)
    lines = [line for line in result.err.splitlines() if line.startswith("relax  ")]
    assert 2 <= len(lines) <= 11  # as many as evaluations
    assert lines[0].startswith("relax  0/2  2 on their way  ")
    assert "\r" not in result.err
    assert "\x1b" not in result.err


def test_a_molecule_that_reacts_is_said_to(run: Run) -> None:
    result = run("relax", "CO", "[NH3+]CC(=O)[O-]", "--json")
    assert result.status == 0  # it converged
    assert [record["bonding"] for record in json.loads(result.out)] == ["kept", "changed"]
    note = "note: [NH3+]CC(=O)[O-], frame 0: bonding changed; what was relaxed is no longer what was given"
    assert result.err.splitlines()[-1] == note
    summary = json.loads(Path("relaxed.summary.json").read_text())
    assert summary["bonding_changed"] == [{"file": "[NH3+]CC(=O)[O-]", "index": 0}]


def test_crystals_are_told_by_cell_pressure_and_space_group(run: Run, model: str) -> None:
    """On the terminal, as JSON and in the CSV file beside the output."""
    shaken = bulk("Cu", cubic=True)
    shaken.positions[0, 0] += 0.05
    ase.io.write("copper.vasp", shaken)
    result = run("relax", "copper.vasp", "-m", "universal-small", "--cell", "--fmax", 0.01, "--json")
    record = json.loads(result.out)[0]
    relaxed = ase.io.read("relaxed.extxyz")
    assert list(record["cell"].values()) == pytest.approx(relaxed.cell.cellpar(), abs=1e-6)
    assert record["volume"] == pytest.approx(relaxed.get_volume(), rel=1e-6)
    assert record["energy_per_atom"] == pytest.approx(record["energy"] / 4)
    relaxed.calc = AtomsMLCalculator("universal-small")
    assert record["stress"] == pytest.approx(relaxed.get_stress(), abs=1e-6)
    assert record["pressure"] == pytest.approx(-relaxed.get_stress()[:3].mean() / units.GPa, abs=1e-3)
    np.testing.assert_allclose(record["forces"], relaxed.get_forces(), atol=1e-5)
    assert record["space_group_before"] == space_group(shaken) == "P4mm (99)"
    assert record["space_group"] == space_group(relaxed) == "Fm-3m (225)"
    with open("relaxed.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["space_group"] == record["space_group"]
    assert float(row["pressure_GPa"]) == record["pressure"]
    assert [float(row[key]) for key in ("a_A", "gamma_deg", "stress_yz_eV/A^3")] == [
        record["cell"]["a"],
        record["cell"]["gamma"],
        record["stress"][3],
    ]
    mixed = run("relax", "copper.vasp", "O", "-m", model, "--steps", 1, "-o", "mixed.extxyz")
    header, crystal, water = mixed.out.splitlines()
    assert header.split()[-6:] == ["GPa", "space", "group", "before", "after", "bonding"]
    assert crystal.split()[-1] == "-"  # crystals have no bonds to keep
    assert water.split()[-2:] == ["-", "kept"]


def test_sdf_and_mol_outputs_have_bonds_and_energies(run):
    """Bonds are those of the SMILES, and those that are there where the molecule reacted."""
    for smiles, output, after, bonds in (
        ("C/C=C\\C", "cis.sdf", "C/C=C\\C", "given"),
        ("[NH3+]CC(=O)[O-]", "glycine.sdf", "NCC(=O)O", "perceived"),
    ):
        result = run("relax", smiles, "-m", "organic-xtb", "--device", "cpu", "-o", output, "--json")
        assert result.status == 0
        (mol,) = Chem.SDMolSupplier(output, removeHs=False)
        assert Chem.MolToSmiles(Chem.RemoveHs(mol)) == Chem.CanonSmiles(after)
        assert mol.GetProp("bonds") == bonds
        assert float(mol.GetProp("energy_eV")) == pytest.approx(json.loads(result.out)[0]["energy"], abs=1e-7)
    assert run("relax", "cis.sdf", "glycine.sdf", "-m", "organic-xtb", "-o", "both.mol").err == (
        "error: cannot write 2 structures to both.mol: a MOL file holds one; use .sdf\n"
    )
