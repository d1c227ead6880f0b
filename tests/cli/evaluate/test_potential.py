"""`atomsml evaluate` against the calculator in a script and numpy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.db import connect

from atomsml import AtomsMLCalculator

Run = Callable[..., Any]


def computed(atoms: ase.Atoms, model: str) -> ase.Atoms:
    """A copy with the model's own results, structure by structure, in float64."""
    copy = ase.Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    copy.calc = AtomsMLCalculator(model, precision="float64", exact=True)
    return copy


@pytest.fixture
def frames(model: str) -> list[ase.Atoms]:
    """Molecules and crystals whose labels are the model's results and known errors; some labels are missing."""
    rng, frames = np.random.default_rng(0), []
    for i, name in enumerate(["CH3OH", "H2O", "H2CO", "Cu", "Cu"]):
        atoms = bulk("Cu", cubic=True) if name == "Cu" else molecule(name)
        atoms.info.clear()
        atoms.rattle(0.05, seed=i)
        right = computed(atoms, model)
        if i != 1:
            atoms.arrays["REF_forces"] = right.get_forces() + rng.normal(scale=0.1, size=(len(atoms), 3))
        if name == "Cu":
            error = rng.normal(scale=0.01, size=(3, 3))
            atoms.info["REF_stress"] = (right.get_stress(voigt=False) + error + error.T).ravel()
        atoms.info["REF_energy"] = right.get_potential_energy() + rng.normal(scale=0.1)
        atoms.info["config_type"] = "crystal" if name == "Cu" else "molecule"
        frames.append(atoms)
    return frames


def write(path: str, frames: list[ase.Atoms]) -> None:
    if path.endswith(".db"):
        with connect(path) as database:
            for atoms in frames:
                labels = {**atoms.info, "REF_forces": atoms.arrays.get("REF_forces")}
                database.write(atoms, data={name: value for name, value in labels.items() if value is not None})
    else:
        ase.io.write(path, frames, format="extxyz")


def expected(frames: list[ase.Atoms], model: str) -> dict[str, float]:
    energy, forces, labels, stress = [], [], [], []
    for atoms in frames:
        right = computed(atoms, model)
        energy.append((right.get_potential_energy() - atoms.info["REF_energy"]) / len(atoms))
        if "REF_forces" in atoms.arrays:
            forces.append((right.get_forces() - atoms.arrays["REF_forces"]).ravel())
            labels.append(atoms.arrays["REF_forces"].ravel())
        if "REF_stress" in atoms.info:
            stress.append(right.get_stress(voigt=False).ravel() - atoms.info["REF_stress"])
    table = {"structures": len(frames), "energies": len(energy), "stresses": len(stress)}
    table["force_components"] = len(np.concatenate(forces))
    for name, errors in (("energy", energy), ("forces", forces), ("stress", stress)):
        if errors:
            flat = 1000 * np.hstack(errors)
            table[f"{name}_mae"], table[f"{name}_rmse"] = np.mean(np.abs(flat)), np.sqrt(np.mean(flat**2))
    table["forces_relative"] = table["forces_rmse"] / (10 * np.sqrt(np.mean(np.concatenate(labels) ** 2)))
    return table


@pytest.mark.parametrize(
    ("file", "batch_atoms", "exact"),
    [("data.extxyz", 2000, True), ("data.extxyz", 6, True), ("data.db", 2000, True), ("data.db", 2000, False)],
)
def test_errors_are_those_of_the_calculator(
    run: Run, model: str, frames: list[ase.Atoms], file: str, batch_atoms: int, exact: bool
) -> None:
    write(file, frames)
    words = ["--json", "--precision", "float64", "--batch-atoms", batch_atoms, *(["--exact"] if exact else [])]
    result = run("evaluate", model, file, *words)
    assert result.status == 0
    report = json.loads(result.out)
    # extxyz keeps 8 decimals of positions and forces: 1e-8 A times some 10 eV/A^2, in an error of 0.1 eV/A; of tables,
    # slopes are within 1e-8 of the largest
    close = {"rel": 1e-5} if file.endswith("xyz") else {"rel": 1e-10 if exact else 1e-6}
    assert list(report["errors"]) == ["crystal", "molecule", "all"]
    assert report["errors"]["all"] == pytest.approx(expected(frames, model), **close)
    assert report["errors"]["molecule"] == pytest.approx(expected(frames[:3], model), **close)
    assert report["errors"]["crystal"] == pytest.approx(expected(frames[3:], model), **close)
    copper = {key: value for key, value in expected(frames[3:], model).items() if key.startswith("force")}
    assert report["elements"]["Cu"] == pytest.approx(copper, **close)  # all of the crystals, and nothing else


def test_tables_and_the_keys_that_were_found(run: Run, model: str, frames: list[ase.Atoms]) -> None:
    write("data.extxyz", frames)
    result = run("evaluate", model, "data.extxyz")
    types, elements = result.out.split("\n\n")
    assert types.splitlines()[0].startswith("config type  structures  E MAE meV/atom")
    assert [line.split()[:2] for line in types.splitlines()[1:]] == [["crystal", "2"], ["molecule", "3"], ["all", "5"]]
    assert types.splitlines()[2].endswith("-")  # molecules have no stress
    assert [line.split()[0] for line in elements.splitlines()[1:]] == ["H", "C", "O", "Cu"]
    assert "forces = REF_forces, on 4 of 5" in result.err
    assert "different levels" not in result.err


def test_files_stand_for_config_types(run: Run, model: str, frames: list[ase.Atoms]) -> None:
    for atoms in frames[1:]:
        del atoms.info["config_type"]
    write("first.extxyz", frames[:2])
    write("second.extxyz", frames[2:])
    report = json.loads(run("evaluate", model, "first.extxyz", "second.extxyz", "--json").out)
    assert {name: errors["structures"] for name, errors in report["errors"].items()} == {
        "first.extxyz": 1,
        "molecule": 1,
        "second.extxyz": 3,
        "all": 5,
    }
    assert list(json.loads(run("evaluate", model, "second.extxyz", "--json").out)["errors"]) == ["all"]


def test_predictions_stand_beside_the_labels(run: Run, model: str, frames: list[ase.Atoms]) -> None:
    write("data.extxyz", frames)
    result = run("evaluate", model, "data.extxyz", "-o", "new/out.extxyz", "--precision", "float64", "--json")
    assert result.status == 0
    for atoms, given in zip(ase.io.read("new/out.extxyz", ":"), frames, strict=True):
        right = computed(given, model)
        # positions and forces have 8 decimals
        np.testing.assert_allclose(atoms.positions, given.positions, rtol=0, atol=1e-8)
        assert atoms.get_potential_energy() == pytest.approx(right.get_potential_energy(), abs=1e-5)
        np.testing.assert_allclose(atoms.get_forces(), right.get_forces(), rtol=0, atol=1e-5)
        assert ("stress" in atoms.calc.results) == given.pbc.any()
        if given.pbc.any():
            np.testing.assert_allclose(atoms.get_stress(), right.get_stress(), rtol=0, atol=1e-6)
            np.testing.assert_allclose(atoms.info["REF_stress"].ravel(), given.info["REF_stress"], rtol=0, atol=1e-12)
        assert atoms.info["REF_energy"] == pytest.approx(given.info["REF_energy"], abs=1e-10)
        assert atoms.info["config_type"] == given.info["config_type"]
        assert ("REF_forces" in atoms.arrays) == ("REF_forces" in given.arrays)
        assert ("REF_stress" in atoms.info) == ("REF_stress" in given.info)
    summary = json.loads(Path("new/out.summary.json").read_text())
    assert (summary["command"], summary["inputs"], summary["outputs"]) == (
        "evaluate",
        ["data.extxyz"],
        ["new/out.extxyz"],
    )
    assert (summary["model"]["name"], summary["structures"], summary["failed"]) == (model, 5, [])
    assert summary["errors"] == json.loads(result.out)["errors"]
    # the labels are found again, not the predictions
    again = run("evaluate", model, "new/out.extxyz", "--precision", "float64", "--json")
    assert json.loads(again.out)["errors"]["all"] == pytest.approx(summary["errors"]["all"], rel=1e-5)


def test_parity_plot(run: Run, model: str, frames: list[ase.Atoms]) -> None:
    write("data.extxyz", frames)
    assert run("evaluate", model, "data.extxyz", "--plot", "parity.png").status == 0
    assert Path("parity.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads(Path("parity.summary.json").read_text())["outputs"] == ["parity.png"]


def test_other_reference_level_is_noticed(run: Run, model: str, frames: list[ase.Atoms]) -> None:
    shifts = {1: -13.6, 6: -1029.0, 8: -2041.0, 29: -45000.0}
    for _ in range(2):  # three structures to each element and more
        frames += [atoms.copy() for atoms in frames]
    for atoms in frames:
        atoms.info["REF_energy"] += sum(shifts[z] for z in atoms.numbers.tolist())
    write("data.extxyz", frames)
    result = run("evaluate", model, "data.extxyz", "--json")
    assert result.err.count("warning: model and labels count energies from different levels") == 1
    report = json.loads(result.out)
    assert report["errors"]["all"]["energy_rmse"] > 1e7
    # what is left is no larger than the errors that were put in, 0.1 eV on three atoms and more
    assert report["energy_rmse_without_shifts"] < 100


def test_unknown_element_is_refused_by_its_first_structure(run: Run, model: str, frames: list[ase.Atoms]) -> None:
    gold = bulk("Au")
    gold.info["REF_energy"] = 0.0
    write("first.extxyz", frames)
    write("second.extxyz", [frames[0], gold, gold])
    result = run("evaluate", model, "first.extxyz", "second.extxyz", "-o", "out.extxyz", "--strict")
    assert result.status == 1
    assert result.out == ""
    assert result.err == "error: second.extxyz, frame 1: the model does not know Au; it was made for H C O Cu\n"
    assert not Path("out.extxyz").exists()


def test_wrong_key_lists_what_is_there(run: Run, model: str, frames: list[ase.Atoms]) -> None:
    write("data.extxyz", frames)
    result = run("evaluate", model, "data.extxyz", "--forces-key", "dft_forces")
    assert result.status == 1
    assert result.err.startswith("error: data.extxyz: no structure has the forces key 'dft_forces'")
    assert "REF_forces (4)" in result.err


def test_keys_choose_the_labels(run: Run, model: str, frames: list[ase.Atoms]) -> None:
    for atoms in frames:
        atoms.info["kind"] = atoms.get_chemical_formula()
    write("data.extxyz", frames)
    words = ["--forces-key", "", "--config-type-key", "kind", "--json"]
    errors = json.loads(run("evaluate", model, "data.extxyz", *words).out)["errors"]
    assert sorted(errors) == ["CH2O", "CH4O", "Cu4", "H2O", "all"]
    assert (errors["all"]["energies"], errors["all"]["force_components"]) == (5, 0)


def test_structures_that_cannot_be_treated_are_listed_and_the_others_evaluated(
    run: Run, model: str, frames: list[ase.Atoms]
) -> None:
    write("data.extxyz", frames)
    right = json.loads(run("evaluate", model, "data.extxyz", "--json").out)["errors"]["all"]
    gold = ase.Atoms("Au", info={"REF_energy": -1.0})
    write("data.extxyz", [*frames[:2], gold, *frames[2:]])
    text = Path("data.extxyz").read_text()
    Path("data.extxyz").write_text("1\nREF_energy\nH 0 0 0\n" + text)
    result = run("evaluate", model, "data.extxyz", "-o", "out.extxyz", "--json")
    assert result.status == 1
    assert json.loads(result.out)["errors"]["all"] == pytest.approx(right)
    assert "refused: data.extxyz, frame 0: REF_energy: must hold numbers, got a word without a value" in result.err
    assert "refused: data.extxyz, frame 3: the model does not know Au" in result.err
    assert "2 of 7 inputs were refused" in result.err
    failed = json.loads(Path("out.summary.json").read_text())["failed"]
    assert [each["structure"] for each in failed] == ["data.extxyz, frame 0", "data.extxyz, frame 3"]
    result = run("evaluate", model, "data.extxyz", "--strict")
    assert (result.status, result.out) == (1, "")
    assert "error: data.extxyz, frame 0: REF_energy" in result.err


def test_prediction_that_is_not_finite_is_an_error(run: Run, model: str, frames: list[ase.Atoms]) -> None:
    frames[2].positions[1] = frames[2].positions[0]
    write("data.extxyz", frames)
    result = run("evaluate", model, "data.extxyz", "-o", "out.extxyz", "--json")
    assert result.status == 1
    assert "error: no finite prediction for 1 structures, first data.extxyz, frame 2" in result.err
    assert json.loads(result.out)["errors"]["all"]["energy_mae"] is None
    (failed,) = json.loads(Path("out.summary.json").read_text())["failed"]
    assert failed["structure"] == "data.extxyz, frame 2"


@pytest.mark.parametrize("words", [("-o", "out.cif"), ("--plot", "parity.txt"), ("-o", "data.extxyz/out.extxyz")])
def test_output_is_checked_before_the_work(
    run: Run, model: str, frames: list[ase.Atoms], words: tuple[str, str]
) -> None:
    write("data.extxyz", frames)
    result = run("evaluate", model, "data.extxyz", *words)
    assert (result.status, result.out) == (1, "")
    assert result.err.startswith("error: cannot ")
    assert result.err.count("\n") == 1
    assert [path.name for path in Path().iterdir()] == ["data.extxyz"]


def test_what_looks_wrong_is_said_before_the_work(run: Run, model: str, frames: list[ase.Atoms]) -> None:
    for atoms in frames[3:]:
        atoms.info["REF_stress"] = 1602.0 * atoms.info["REF_stress"]  # kbar
    write("data.extxyz", frames)
    result = run("evaluate", model, "data.extxyz")
    assert result.status == 0
    assert "warning: data.extxyz: stress unit: the largest component of a stress is" in result.err


def test_labels_that_are_a_multiple_of_the_predictions_are_named(run: Run, model: str, frames: list[ase.Atoms]) -> None:
    for atoms in frames:
        right = computed(atoms, model)
        atoms.info["REF_energy"] = right.get_potential_energy()
        atoms.arrays["REF_forces"] = -right.get_forces()  # gradients
        atoms.info.pop("REF_stress", None)
    write("data.extxyz", frames)
    result = run("evaluate", model, "data.extxyz", "--json")
    assert "warning: data.extxyz: force labels are -1 times the model's: the other sign" in result.err
    (factor,) = json.loads(result.out)["factors"]
    assert (factor["file"], factor["label"]) == ("data.extxyz", "forces")
    assert factor["factor"] == pytest.approx(-1.0, abs=0.01)


def test_structures_of_another_charge_are_refused_or_counted(run: Run) -> None:
    frames = [molecule("H2O") for _ in range(4)]
    for i, atoms in enumerate(frames):
        atoms.rattle(0.05, seed=i)
        atoms.info |= {"REF_energy": -138.0, "charge": int(i > 2), "spin": 1 + int(i > 2)}
    ase.io.write("mixed.extxyz", frames, format="extxyz")
    ase.io.write("ions.extxyz", frames[3:], format="extxyz")
    mixed = run("evaluate", "organic-xtb", "mixed.extxyz")
    reason = "its total charge is +1, the model was made for 0; take a model of that charge, or correct the charge"
    assert mixed.status == 0
    assert f"warning: mixed.extxyz: of 1 of 4 structures, {reason}" in mixed.err
    ions = run("evaluate", "organic-xtb", "ions.extxyz")
    assert ions.status == 1
    assert ions.err.splitlines()[-1].startswith(f"error: ions.extxyz: of each structure, {reason}")


def test_radicals_that_state_nothing_are_counted(run: Run) -> None:
    """Odd numbers of electrons, and dioxygen, whose ground state is a triplet."""
    frames = [molecule(name) for name in ("CH4", "CH3", "H2O", "O2")]
    for atoms in frames:
        atoms.set_initial_magnetic_moments(None)
        atoms.info["REF_energy"] = -100.0
    ase.io.write("some.extxyz", frames, format="extxyz")
    ase.io.write("sound.extxyz", frames[::2], format="extxyz")
    some, sound = (run("evaluate", "organic-xtb", f"{name}.extxyz") for name in ("some", "sound"))
    wanted = "2 of 4 structures cannot be what the model was made for; the first is some.extxyz, frame 1: it has an odd"
    assert wanted in some.err
    assert "cannot be what" not in sound.err
