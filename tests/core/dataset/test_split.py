"""Splits follow from the structures alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
from ase.build import bulk, fcc111, molecule

from atomsml.dataset import Columns, Dataset, content_hashes, read_dataset, split


def columns_of(names: list[str]) -> Columns:
    """Diatomic molecules of different lengths, one for each group name."""
    n = len(names)
    positions = np.zeros((2 * n, 3))
    positions[1::2, 0] = 1 + np.arange(n) / 100
    return Columns(
        num_atoms=np.full(n, 2),
        numbers=np.full(2 * n, 8, dtype=np.uint8),
        positions=positions,
        forces=np.zeros((2 * n, 3)),
        cell=np.zeros((n, 3, 3)),
        pbc=np.zeros((n, 3), dtype=bool),
        energy=np.arange(float(n)),
        stress=np.full((n, 3, 3), np.nan),
        config_types=np.full(n, "", dtype=object),
        groups=np.array(names, dtype=object),
    )


@pytest.fixture
def many() -> Dataset:
    """4,000 different structures, ten for each group."""
    return Dataset([columns_of([f"trajectory {i // 10}" for i in range(4000)])])


FRACTIONS = {"train": 0.8, "valid": 0.05, "test": 0.15}


def energies(parts: dict[str, Dataset]) -> dict[str, set[float]]:
    return {name: set(part.energy.tolist()) for name, part in parts.items()}


@pytest.mark.parametrize("by", ["content", "group"])
def test_parts_have_the_wanted_sizes_and_hold_everything_once(many: Dataset, by: str) -> None:
    parts = split(many, FRACTIONS, by)
    assert sorted(e for part in parts.values() for e in part.energy) == many.energy.tolist()
    draws = 4000 if by == "content" else 400
    for name, fraction in FRACTIONS.items():
        # four standard deviations of a binomial distribution
        tolerance = 4 * (fraction * (1 - fraction) / draws) ** 0.5
        assert len(parts[name]) / 4000 == pytest.approx(fraction, abs=tolerance)


@pytest.mark.parametrize("by", ["content", "group"])
def test_parts_do_not_depend_on_order_nor_on_what_else_there_is(many: Dataset, by: str) -> None:
    whole = energies(split(many, FRACTIONS, by))
    order = np.random.default_rng(0).permutation(4000)
    assert energies(split(many.subset(order), FRACTIONS, by)) == whole
    some = set(many.energy[order[:1000]].tolist())
    assert energies(split(many.subset(order[:1000]), FRACTIONS, by)) == {k: v & some for k, v in whole.items()}


def test_frames_of_one_trajectory_stay_together(many: Dataset) -> None:
    parts = split(many, FRACTIONS, "group")
    groups = [set(part.groups) for part in parts.values()]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 400


def test_identical_structures_stay_together_whatever_their_labels(many: Dataset) -> None:
    copies = columns_of(["x"] * 4000)
    again = Dataset([replace(copies, energy=copies.energy + 10_000, forces=copies.forces + 1)])
    parts = energies(split(Dataset.concatenate([many, again]), FRACTIONS))
    for found in parts.values():
        assert {e + 10_000 for e in found if e < 10_000} == {e for e in found if e >= 10_000}


def test_a_split_by_group_needs_groups(many: Dataset) -> None:
    with pytest.raises(ValueError, match=r"1 of 2 structures have no group.*--group-key"):
        split(Dataset([columns_of(["a", ""])]), {"train": 0.5, "valid": 0.5}, "group")


@pytest.mark.parametrize(
    "fractions", [{"train": 0.5}, {"a": 0.7, "b": 0.4}, {"a": 1.0, "b": 0.0}, {"a": 1.5, "b": -0.5}]
)
def test_fractions_that_are_none(many: Dataset, fractions: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="add up to 1"):
        split(many, fractions)


def test_a_part_that_stays_empty_is_an_error(many: Dataset) -> None:
    with pytest.raises(ValueError, match=r"'valid' \(0\.1 of 1 different structures\)"):
        split(many.subset([0, 0, 0]), {"valid": 0.1, "train": 0.1, "test": 0.8})


def content(path: Path, *frames: ase.Atoms) -> list[int]:
    for atoms in frames:
        atoms.info = {"energy": 0.0}
    ase.io.write(path, frames, format="extxyz")
    return content_hashes(read_dataset(path)).tolist()


@pytest.mark.parametrize(
    "atoms",
    [
        bulk("Si", cubic=True) * (2, 2, 2),  # atoms on simple fractions of the cell
        bulk("W"),
        fcc111("Al", (2, 2, 3), vacuum=7.0),
        molecule("C6H6"),
        ase.Atoms("CO", [[0, 0, 0], [0, 0, 1.1]], cell=[0, 0, 4], pbc=[False, False, True]),
    ],
    ids=["silicon", "one atom", "slab", "molecule", "wire"],
)
def test_shifting_and_wrapping_do_not_change_the_content(tmp_path: Path, atoms: ase.Atoms) -> None:
    rng = np.random.default_rng(0)
    copies = [atoms.copy() for _ in range(10)]
    for copy in copies:
        copy.positions += rng.normal(scale=5, size=3)
        copy.wrap()
    assert len(set(content(tmp_path / "set.xyz", atoms, *copies))) == 1


def test_the_content_changes_with_anything_but_labels(tmp_path: Path) -> None:
    atoms = bulk("Si", cubic=True)
    moved, alloy, wider, slab = (atoms.copy() for _ in range(4))
    moved.positions[3, 1] += 0.001
    alloy.numbers[2] = 32
    wider.set_cell(atoms.cell * 1.001)
    slab.pbc = (True, True, False)
    assert len(set(content(tmp_path / "set.xyz", atoms, moved, alloy, wider, slab))) == 5


def test_a_box_around_an_open_molecule_does_not_count(tmp_path: Path) -> None:
    water, boxed = molecule("H2O"), molecule("H2O", cell=[50, 50, 50])
    assert len(set(content(tmp_path / "set.xyz", water, boxed))) == 1


def test_the_digits_of_a_file_do_not_count(tmp_path: Path) -> None:
    """Decimals as people print them are the worst case for rounding; four or more of them give one content."""
    exact = bulk("Cu", cubic=True) * (2, 2, 2)
    exact.positions = np.random.default_rng(0).uniform(0, 7, (32, 3)).round(4)
    shifted = exact.copy()
    shifted.positions = (shifted.positions + 0.3333) - 0.1  # rounding errors in the last bits
    single = exact.copy()
    single.positions = single.positions.astype(np.float32)
    assert len(set(content(tmp_path / "set.xyz", exact, shifted, single))) == 1
