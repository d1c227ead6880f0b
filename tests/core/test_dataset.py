"""Reading, splitting and batching labelled structures."""

from __future__ import annotations

import io
import lzma
from pathlib import Path

import ase.io
import h5py
import numpy as np
import pytest
import torch
from ase.build import bulk, molecule

from atomsml.dataset.old import batches, least_squares_references, read_extxyz, read_hdf5, split_of
from atomsml.graph import AtomicGraph


@pytest.fixture
def molecules() -> list[AtomicGraph]:
    graphs = []
    for name, energy in (("H2O", 1.0), ("CH4", 2.0), ("H2", 3.0), ("CO2", 4.0), ("CH3OH", 5.0)):
        graph = AtomicGraph.from_ase(molecule(name))
        graphs.append(graph.replace(system_data={"energy": torch.tensor([energy], dtype=torch.float64)}, atom_data={}))
    return graphs


def test_read_hdf5(tmp_path: Path) -> None:
    water, hydrogen = molecule("H2O"), molecule("H2")
    positions = np.concatenate([water.positions, hydrogen.positions])
    with h5py.File(tmp_path / "set.h5", "w") as file:
        file["offsets"] = [0, 3, 5]
        file["numbers"] = np.concatenate([water.numbers, hydrogen.numbers]).astype(np.uint8)
        file["positions"], file["forces"] = positions, 2 * positions
        file["energy"], file["smiles"] = [-1.0, -2.0], [b"O", b"[H][H]"]
    graphs, groups = read_hdf5(tmp_path / "set.h5")
    assert groups == ["O", "[H][H]"]
    assert [g.to_ase().get_chemical_formula() for g in graphs] == ["H2O", "H2"]
    np.testing.assert_array_equal(graphs[1].positions, hydrogen.positions)
    np.testing.assert_array_equal(graphs[1].atom_data["forces"], 2 * hydrogen.positions)
    assert graphs[1].system_data["energy"].tolist() == [-2.0]


@pytest.mark.parametrize("suffix", [".extxyz", ".extxyz.xz"])
def test_read_extxyz(tmp_path: Path, suffix: str) -> None:
    crystal = bulk("Mo", cubic=True)
    crystal.info["REF_energy"] = -21.7
    crystal.arrays["REF_forces"] = np.arange(6.0).reshape(2, 3)
    strained = crystal.copy()
    strained.info["REF_stress"] = np.arange(9.0).reshape(3, 3)
    buffer = io.StringIO()
    ase.io.write(buffer, [crystal, strained], format="extxyz")
    path = tmp_path / f"set{suffix}"
    path.write_bytes(lzma.compress(buffer.getvalue().encode()) if suffix.endswith("xz") else buffer.getvalue().encode())
    first, second = read_extxyz(path)
    assert first.system_data["energy"].item() == -21.7
    assert torch.isnan(first.system_data["stress"]).all()
    np.testing.assert_array_equal(second.system_data["stress"][0], np.arange(9.0).reshape(3, 3))
    np.testing.assert_array_equal(second.atom_data["forces"], np.arange(6.0).reshape(2, 3))
    assert second.pbc.all()


def test_read_extxyz_names_the_frame_without_labels(tmp_path: Path) -> None:
    ase.io.write(tmp_path / "bare.extxyz", bulk("Mo"))
    with pytest.raises(ValueError, match="frame 0 lacks REF_energy"):
        read_extxyz(tmp_path / "bare.extxyz")


def test_split_depends_on_the_name_alone_and_has_the_wanted_sizes() -> None:
    fractions = {"train": 0.8, "valid": 0.05, "test": 0.15}
    names = [f"C{'C' * (i % 7)}O{i}" for i in range(4000)]
    found = [split_of(name, fractions) for name in names]
    assert [split_of(name, fractions) for name in reversed(names)] == found[::-1]
    for split, fraction in fractions.items():
        # four standard deviations of a binomial distribution
        tolerance = 4 * (fraction * (1 - fraction) / len(names)) ** 0.5
        assert found.count(split) / len(names) == pytest.approx(fraction, abs=tolerance)


def test_split_refuses_fractions_that_do_not_add_up() -> None:
    with pytest.raises(ValueError, match="add up to 1"):
        [split_of(str(i), {"train": 0.5}) for i in range(100)]


def test_batches_hold_every_graph_once_and_not_too_many_atoms(molecules: list[AtomicGraph]) -> None:
    for generator in (None, torch.Generator().manual_seed(0)):
        found = list(batches(molecules, 8, generator))
        assert all(b.num_atoms <= 8 for b in found)
        energies = torch.cat([b.system_data["energy"] for b in found]).tolist()
        assert sorted(energies) == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_a_graph_larger_than_a_batch_makes_one_of_its_own(molecules: list[AtomicGraph]) -> None:
    assert [b.num_systems for b in batches(molecules, 1)] == [1] * 5


def test_shuffling_follows_the_generator(molecules: list[AtomicGraph]) -> None:
    def order(seed: int) -> list[float]:
        found = batches(molecules, 1, torch.Generator().manual_seed(seed))
        return [b.system_data["energy"].item() for b in found]

    assert order(1) == order(1)
    assert len({tuple(order(seed)) for seed in range(5)}) > 1


def test_references_recover_additive_energies(molecules: list[AtomicGraph]) -> None:
    truth = {1: -13.6, 6: -1030.0, 8: -2040.0}
    labelled = [
        g.replace(
            system_data={"energy": torch.tensor([sum(truth[z] for z in g.numbers.tolist())], dtype=torch.float64)}
        )
        for g in molecules
    ]
    found = least_squares_references(labelled, (1, 6, 8))
    np.testing.assert_allclose(found, list(truth.values()), rtol=1e-6)
