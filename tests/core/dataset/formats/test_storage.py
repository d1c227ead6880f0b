"""Datasets in HDF5: nothing is lost, nothing half-written stays, and many processes read at once."""

from __future__ import annotations

import pickle
import resource
import signal
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from torch.utils.data import DataLoader

from atomsml import __version__
from atomsml.dataset import Columns, Dataset, LabelKeys, content_hashes, read_dataset
from atomsml.dataset.formats.storage import StoredColumns, describe_source, write_dataset


@pytest.fixture
def stored(tmp_path: Path, dataset: Dataset) -> Path:
    path = tmp_path / "set.h5"
    blocks = (columns for _, columns in dataset.blocks(20))
    assert write_dataset(path, blocks, [describe_source(found) for found in dataset.found]) == 16
    return path


def synthetic(structures: int, atoms: int = 20, seed: int = 0) -> Columns:
    rng = np.random.default_rng(seed)
    return Columns(
        num_atoms=np.full(structures, atoms),
        numbers=rng.integers(1, 90, structures * atoms).astype(np.uint8),
        positions=rng.normal(size=(structures * atoms, 3)),
        forces=rng.normal(size=(structures * atoms, 3)),
        cell=np.zeros((structures, 3, 3)),
        pbc=np.zeros((structures, 3), dtype=bool),
        energy=rng.normal(size=structures),
        stress=np.full((structures, 3, 3), np.nan),
        config_types=np.full(structures, "", dtype=object),
        groups=rng.choice(["a", "b"], structures).astype(object),
    )


def assert_equal(found: Columns, wanted: Columns) -> None:
    for name in Columns.__annotations__:
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name), err_msg=name)


@pytest.mark.parametrize("order", [range(16), [5], [13, 2, 2, 0, 15, 14], [4, 5, 6, 9], []])
def test_rows_come_back_exactly_and_in_the_order_asked_for(stored: Path, dataset: Dataset, order: list[int]) -> None:
    rows = np.array(order, dtype=np.int64)
    source = StoredColumns(stored)
    assert_equal(source.take(rows), dataset.columns(rows))
    np.testing.assert_array_equal(source.numbers_of(rows), dataset.columns(rows).numbers)


def test_what_is_known_without_reading_structures(stored: Path, dataset: Dataset) -> None:
    found = read_dataset(stored)
    np.testing.assert_array_equal(found.energy, dataset.energy)
    np.testing.assert_array_equal(content_hashes(found), content_hashes(dataset))
    assert found.groups.tolist() == dataset.groups.tolist()
    assert found.config_types.tolist() == dataset.config_types.tolist()
    assert found.label_counts() == dataset.label_counts()
    assert found.elements == dataset.elements
    assert found.found[0].keys == LabelKeys("energy", "forces", "stress", config_type="config_type", group="group")


def test_the_file_describes_itself(stored: Path, extxyz: Path) -> None:
    with h5py.File(stored) as file:
        assert file.attrs["atomsml_version"] == __version__
        assert file["forces"].attrs["unit"] == "eV/A"
        assert "tension" in file.attrs["conventions"]
        assert {file[name].compression for name in ("positions", "forces", "energy", "numbers")} == {"gzip"}
    (source,) = StoredColumns(stored).sources
    assert (source["file"], source["structures"]) == (extxyz.name, 16)
    assert source["keys"]["energy"] == "REF_energy"
    assert len(source["sha256"]) == 64


def test_a_key_may_be_given_as_it_was_in_the_source(stored: Path) -> None:
    assert len(read_dataset(stored, LabelKeys(energy="REF_energy"))) == 16
    with pytest.raises(ValueError, match="'dft_energy' but from REF_energy; leave the key away"):
        read_dataset(stored, LabelKeys(energy="dft_energy"))


def test_stored_and_other_structures_join(stored: Path, dataset: Dataset) -> None:
    joined = Dataset.concatenate([dataset, read_dataset(stored)])
    rows = np.random.default_rng(0).permutation(32)
    assert_equal(joined.columns(rows), dataset.columns(rows % 16))


def test_a_pickle_holds_the_path_alone(tmp_path: Path) -> None:
    write_dataset(tmp_path / "large.h5", [synthetic(5000)])
    source = StoredColumns(tmp_path / "large.h5")
    text = pickle.dumps(source)
    assert len(text) < 1000
    assert_equal(pickle.loads(text).take(np.arange(3)), source.take(np.arange(3)))


# a spawned worker has to import torch
@pytest.mark.parametrize(("start", "workers"), [("fork", 2), pytest.param("spawn", 1, marks=pytest.mark.slow)])
def test_workers_read_the_same_as_one_process(stored: Path, dataset: Dataset, start: str, workers: int) -> None:
    """Also after this process has read, which leaves its open file to forked workers."""
    lazy = read_dataset(stored)
    lazy.columns(np.arange(4))
    order = np.random.default_rng(0).permutation(16).tolist()
    loader = DataLoader(
        lazy,  # type: ignore[arg-type]
        batch_size=3,
        sampler=order,
        num_workers=workers,
        collate_fn=list,
        multiprocessing_context=start,
    )
    graphs = [graph for batch in loader for graph in batch]
    assert len(graphs) == 16
    for graph, i in zip(graphs, order, strict=True):
        np.testing.assert_array_equal(graph.positions, dataset[i].positions)
        np.testing.assert_array_equal(graph.atom_data["forces"], dataset[i].atom_data["forces"])
    np.testing.assert_array_equal(lazy[5].positions, dataset[5].positions)


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    def peak(blocks: int) -> int:
        tracemalloc.start()
        write_dataset(tmp_path / "set.h5", (synthetic(300, seed=i) for i in range(blocks)))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    # eight more blocks of 0.3 MB: what stays of each structure is a fraction of its 1 kB
    assert peak(10) - peak(2) < 8 * 300 * 100


def test_an_error_while_writing_leaves_nothing_behind(tmp_path: Path) -> None:
    def blocks() -> Iterator[Columns]:
        yield synthetic(10)
        raise ValueError("a broken frame")

    (tmp_path / "set.h5").write_bytes(b"what was there before")
    with pytest.raises(ValueError, match="a broken frame"):
        write_dataset(tmp_path / "set.h5", blocks())
    with pytest.raises(ValueError, match="at least one structure"):
        write_dataset(tmp_path / "set.h5", [])
    assert [file.name for file in tmp_path.iterdir()] == ["set.h5"]
    assert (tmp_path / "set.h5").read_bytes() == b"what was there before"


@pytest.mark.parametrize("room", [500, 2_000, 10_000, 50_000, 200_000])
def test_a_full_disk_is_one_clear_line(tmp_path: Path, room: int) -> None:
    """The limit on the size of files stands for the disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        with pytest.raises(OSError, match=r"cannot write .*set\.h5") as caught:
            write_dataset(tmp_path / "set.h5", (synthetic(500, seed=i) for i in range(10)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_cut_off_or_of_a_later_version(stored: Path) -> None:
    content = stored.read_bytes()
    stored.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="cannot be read as HDF5"):
        read_dataset(stored)
    stored.write_bytes(content)
    with h5py.File(stored, "a") as file:
        file.attrs["format_version"] = 99
    with pytest.raises(ValueError, match="format version 99"):
        read_dataset(stored)
