"""What looks wrong is found, and what is right is left alone."""

from __future__ import annotations

import copy
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT

from atomsml.dataset import Dataset, read_dataset
from atomsml.dataset.inspection.check import Suspicion, check, shared_geometries, suspicious
from atomsml.dataset.inspection.check_units import STRESS_UNITS
from atomsml.dataset.inspection.survey import survey


def suspicions(path: Path, frames: list[ase.Atoms]) -> dict[str, Suspicion]:
    ase.io.write(path, frames, format="extxyz")
    dataset = read_dataset(path)
    return {found.kind: found for found in check(dataset, survey(dataset))}


@pytest.fixture(scope="module")
def alloys() -> list[ase.Atoms]:
    """Copper with gold, of several sizes, strained and rattled, with labels of ASE's EMT."""
    rng = np.random.default_rng(0)
    frames = []
    for repeat in ((1, 1, 1), (2, 1, 1), (2, 2, 1)):
        for i in range(8):
            atoms = bulk("Cu", a=3.8, cubic=True) * repeat
            if i < 4:
                atoms.numbers[: i % 3] = 79
                atoms.rattle(0.05, seed=i)
            atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.normal(scale=0.02, size=(3, 3))), scale_atoms=True)
            atoms.calc = EMT()
            frames.append(with_labels(atoms))
    return frames


def with_labels(atoms: ase.Atoms) -> ase.Atoms:
    copy = atoms.copy()
    copy.info["REF_energy"] = atoms.get_potential_energy()
    copy.info["REF_stress"] = atoms.get_stress(voigt=False)
    copy.arrays["REF_forces"] = atoms.get_forces()
    return copy


@pytest.fixture
def good(alloys: list[ase.Atoms]) -> list[ase.Atoms]:
    return copy.deepcopy(alloys)


def test_right_labels_are_left_alone(tmp_path: Path, good: list[ase.Atoms]) -> None:
    found = suspicions(tmp_path / "set.xyz", good)
    assert set(found) <= {"zero forces"}  # of the perfect crystals


def test_duplicates_with_the_same_and_with_other_labels(tmp_path: Path, good: list[ase.Atoms]) -> None:
    same, other, forces = good[3].copy(), good[1].copy(), good[2].copy()
    other.info["REF_energy"] += 0.5
    other.positions += 0.7  # shifted, but the same structure
    forces.arrays["REF_forces"] += 0.1 * np.random.default_rng(0).normal(size=(len(forces), 3))
    found = suspicions(tmp_path / "set.xyz", [*good, same, other, forces])
    assert found["duplicates"].rows.tolist() == [24]
    assert found["duplicates with different labels"].rows.tolist() == [1, 2, 25, 26]
    assert f"{500 / len(other):.3g} meV/atom" in found["duplicates with different labels"].message


def test_forces(tmp_path: Path, good: list[ase.Atoms]) -> None:
    good[0].arrays["REF_forces"][0, 1] += 0.01
    good[1].arrays["REF_forces"][1, 1] += 100
    good[2].arrays["REF_forces"][:] = 0
    good[3].arrays["REF_forces"][2] = np.nan
    found = suspicions(tmp_path / "set.xyz", good)
    assert found["net force"].rows.tolist() == [1, 0]  # the worst first
    assert "and 1e+02 at most" in found["net force"].message
    assert found["extreme forces"].rows.tolist() == [1]
    assert 2 in found["zero forces"].rows
    assert found["incomplete forces"].rows.tolist() == [3]


def test_close_atoms(tmp_path: Path, good: list[ase.Atoms]) -> None:
    good[5].positions[1] = good[5].positions[0] + [0, 0, 1.0]
    found = suspicions(tmp_path / "set.xyz", good)
    assert found["close atoms"].rows.tolist() == [5]
    assert "down to 0.3" in found["close atoms"].message  # Cu-Cu and Au-Cu sums are 2.64 and 2.68 A


def test_energies_per_atom(tmp_path: Path, good: list[ase.Atoms]) -> None:
    for atoms in good:
        atoms.info["REF_energy"] = atoms.info["REF_energy"] / len(atoms) - 3.5
    assert "energy per atom" in suspicions(tmp_path / "set.xyz", good)


@pytest.mark.parametrize(("unit", "factor"), [("hartree", 1 / 27.2114), ("kcal/mol", 23.0605), ("eV", 1.0)])
def test_units_of_energies(tmp_path: Path, unit: str, factor: float) -> None:
    """Energies (hartree) of the Hartree-Fock limit of atoms, Clementi and Roetti (1974), as a model of molecules."""
    atoms_hf = {1: -0.5, 6: -37.6886, 7: -54.4009, 8: -74.8094, 16: -397.5049}
    frames = [molecule(name) for name in ("CH4", "H2O", "NH3", "CO2", "CH3OH", "SH2", "C6H6")]
    for atoms in frames:
        atoms.info["REF_energy"] = 27.2114 * factor * sum(atoms_hf[z] for z in atoms.numbers)
    found = suspicions(tmp_path / "set.xyz", frames)
    assert ("energy unit" in found) == (unit != "eV")
    if unit != "eV":
        assert f"in {unit};" in found["energy unit"].message


@pytest.mark.parametrize("unit", [*STRESS_UNITS, "eV/A^3", "virial"])
def test_units_and_signs_of_stress_follow_from_energies_under_strain(
    tmp_path: Path, good: list[ase.Atoms], unit: str
) -> None:
    for atoms in good:
        factor = {**STRESS_UNITS, "eV/A^3": 1.0, "virial": -atoms.get_volume()}[unit]
        atoms.info["REF_stress"] = factor * atoms.info["REF_stress"]
    found = suspicions(tmp_path / "set.xyz", good)
    assert ("stress unit" in found) == (unit != "eV/A^3")
    if unit == "virial":
        assert "looks like a virial" in found["stress unit"].message
    elif unit != "eV/A^3":
        assert found["stress unit"].message.endswith(f"looks like {unit}")


def test_stress_that_is_too_large_where_energies_cannot_tell(tmp_path: Path, good: list[ase.Atoms]) -> None:
    rattled = good[:4]
    for atoms in rattled:
        atoms.info["REF_stress"] *= 1602.18
    assert "looks like GPa, kbar or a virial" in suspicions(tmp_path / "set.xyz", rattled)["stress unit"].message


def test_stress_that_is_zero_asymmetric_or_of_a_molecule(tmp_path: Path, good: list[ase.Atoms]) -> None:
    good[0].info["REF_stress"] = np.zeros((3, 3))
    good[1].info["REF_stress"][0, 1] += 0.1
    good[2].pbc = False
    found = suspicions(tmp_path / "set.xyz", good)
    assert found["zero stress"].rows.tolist() == [0]
    assert found["asymmetric stress"].rows.tolist() == [1]
    assert found["stress without a cell"].rows.tolist() == [2]


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_structures_of_one_atom(tmp_path: Path, count: int) -> None:
    frames = [ase.Atoms("H", info={"energy": -13.6}) for _ in range(count)]
    assert set(suspicions(tmp_path / "set.xyz", frames)) == {"duplicates"} - ({"duplicates"} if count == 1 else set())


def test_geometries_that_two_datasets_share(dataset: Dataset) -> None:
    parts = [dataset.subset(range(0, 8)), dataset.subset(range(6, 12)), dataset.subset(range(12, 16))]
    assert shared_geometries(parts) == [(0, 1, 2)]
    assert shared_geometries([dataset]) == []


def test_cells_that_are_mirror_images_are_no_strain(tmp_path: Path) -> None:
    """The mean of such cells is singular."""
    frames = []
    for a in (3.0, -3.0, 3.1, -3.1):
        atoms = ase.Atoms("Cu", cell=np.eye(3) * a, pbc=True, info={"energy": a, "stress": np.eye(3) * 0.01})
        frames.append(atoms)
    assert suspicions(tmp_path / "set.xyz", frames) == {}


def test_a_command_is_warned_of_each_file_and_looks_at_a_part_of_a_large_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = [ase.Atoms("H2", [[0, 0, 0], [0, 0, 0.7 + i / 1000]], info={"energy": -31.0}) for i in range(400)]
    for atoms in frames:
        atoms.arrays["forces"] = np.zeros((2, 3))
    ase.io.write(tmp_path / "a.extxyz", frames, format="extxyz")
    ase.io.write(tmp_path / "b.extxyz", frames[:3], format="extxyz")
    both = Dataset.concatenate([read_dataset(tmp_path / name) for name in ("a.extxyz", "b.extxyz")])
    lines = [line for line in suspicious(both) if "zero forces" in line]
    assert [line.partition(": zero forces: ")[0] for line in lines] == [str(p) for p in sorted(tmp_path.iterdir())]
    assert "400 of 400 structures" in lines[0]
    assert lines[0].endswith("(rows 0, 1, 2, 3, 4, 5, 6, 7, ...)")
    monkeypatch.setattr("atomsml.dataset.inspection.check.LOOKED_AT", 80)
    (line,) = [line for line in suspicious(both) if "zero forces" in line and "looked at" in line]
    assert "a.extxyz (40 of 400 looked at): zero forces: 40 of 40 structures" in line
