"""Damaged and hostile HDF5, of our layout and of others': one line with file and array, before much memory is taken."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from atomsml.dataset import Dataset, read_dataset
from atomsml.dataset.formats.storage import describe_source, write_dataset
from atomsml.generative.molecules.data import read_molecules

Damage = Callable[[h5py.File, str], None]
HUGE = 10**11


def _of_type(file: h5py.File, name: str, dtype: str) -> None:
    shape = file[name].shape
    del file[name]
    file.create_dataset(name, data=np.zeros(shape).astype(dtype))


def _another(file: h5py.File, name: str, **kinds: object) -> None:
    del file[name]
    file.create_dataset(name, **kinds)


def _external_link(file: h5py.File, name: str) -> None:
    del file[name]
    file[name] = h5py.ExternalLink("nowhere.h5", name)


def _soft_link(file: h5py.File, name: str) -> None:
    file.move(name, "elsewhere")
    file[name] = h5py.SoftLink("/elsewhere")


def _dangling(file: h5py.File, name: str) -> None:
    del file[name]
    file[name] = h5py.SoftLink("/nowhere")


def _group(file: h5py.File, name: str) -> None:
    del file[name]
    file.create_group(name)


def _virtual(file: h5py.File, name: str) -> None:
    shape, dtype = file[name].shape, file[name].dtype
    del file[name]
    layout = h5py.VirtualLayout(shape, "f8" if dtype.kind == "O" else dtype)
    layout[...] = h5py.VirtualSource("nowhere.h5", name, shape=shape)
    file.create_virtual_dataset(name, layout)


DAMAGES: dict[str, Damage] = {
    "external link": _external_link,
    "soft link": _soft_link,
    "dangling link": _dangling,
    "group": _group,
    "virtual": _virtual,
    "external storage": lambda f, n: _another(f, n, shape=(8,), dtype="f8", external=[("/etc/hostname", 0, 64)]),
    "gone": lambda f, n: f.__delitem__(n),
    "shorter": lambda f, n: f[n].resize(f[n].shape[0] - 1, axis=0),
    "scalar": lambda f, n: _another(f, n, data=1.0),
    "empty": lambda f, n: _another(f, n, data=h5py.Empty("f8")),
    "of strings": lambda f, n: _of_type(f, n, "S4"),
    "compound": lambda f, n: _another(f, n, data=np.zeros(3, [("a", "f8"), ("b", "i4")])),
    "complex": lambda f, n: _of_type(f, n, "c16"),
    "huge": lambda f, n: _another(f, n, shape=(HUGE,), dtype="f8", chunks=(1024,)),
    "one huge chunk": lambda f, n: _another(f, n, shape=(2,), maxshape=(None,), dtype="f8", chunks=(2**28,)),
    "never written": lambda f, n: _another(f, n, shape=f[n].shape, dtype=f[n].dtype, chunks=True),
}


# which then read as zero: no axis is periodic, nothing is labelled, all are of the first type
MAY_BE_UNWRITTEN = ("cell", "pbc", "has_forces", "has_stress", "config_type", "group")


@pytest.fixture
def stored(tmp_path: Path, dataset: Dataset) -> Path:
    path = tmp_path / "set.h5"
    write_dataset(path, (columns for _, columns in dataset.blocks(20)), [describe_source(dataset.found[0])])
    return path


def refusal(path: Path, read: Callable[[Path], object]) -> str:
    """The one line with which reading all of it ends."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=r".") as caught:
        read(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def everything(path: Path) -> list[object]:
    dataset = read_dataset(path)
    return [dataset.label_counts(), dataset.elements, dataset.content, *dataset.blocks()]


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_column_of_ours(stored: Path, damage: str) -> None:
    good = stored.read_bytes()
    with h5py.File(stored) as file:
        names = list(file)
    for name in names:
        if (damage == "shorter" and name == "sources") or (damage == "never written" and name in MAY_BE_UNWRITTEN):
            continue
        stored.write_bytes(good)
        with h5py.File(stored, "r+") as file:
            if damage == "shorter" and file[name].maxshape[0] is not None:
                continue
            DAMAGES[damage](file, name)
        assert name.removesuffix("_names") in refusal(stored, everything) or name == "numbers"


@pytest.mark.parametrize(
    ("name", "row", "value", "message"),
    [
        ("offsets", 1, -1, "offsets must ascend from 0"),
        ("offsets", 1, 10**12, "offsets must ascend from 0"),
        ("offsets", -1, 10**12, "offsets must ascend from 0"),
        ("numbers", 3, 0, "numbers must be from 1 to 118"),
        ("numbers", 3, 119, "numbers must be from 1 to 118"),
        ("positions", 3, np.nan, "position or cell that is not finite"),
        ("positions", 3, 1e300, "position or cell that is not finite, or beyond 1e+08 A"),
        ("cell", 3, np.inf, "position or cell that is not finite"),
        ("energy", 3, np.inf, "a label beyond 1e+12"),
        ("forces", 3, -1e300, "a label beyond 1e+12"),
        ("config_type", 3, 99, "config_type must be rows of config_type_names"),
        ("group", 3, -1, "group must be rows of group_names"),
        ("sources", 0, "[" * 100_000, "sources cannot be read as JSON"),
        ("sources", 0, "[]", "sources must each have keys"),
        ("group_names", 0, b"\xff", "group_names cannot be read as text"),
    ],
)
def test_values_of_ours(stored: Path, name: str, row: int, value: object, message: str) -> None:
    with h5py.File(stored, "r+") as file:
        file[name][row] = value
    assert message in refusal(stored, everything)


def test_a_flipped_bit_of_compressed_data_is_named(stored: Path) -> None:
    with h5py.File(stored) as file:
        chunk = file["positions"].id.get_chunk_info(0)
    content = bytearray(stored.read_bytes())
    content[chunk.byte_offset + chunk.size // 2] ^= 4
    stored.write_bytes(content)
    assert "positions cannot be read" in refusal(stored, everything)


@pytest.mark.parametrize(("key", "value"), [("format_version", "x"), ("format_version", [1, 2]), ("format_version", 0)])
def test_attributes_of_ours(stored: Path, key: str, value: object) -> None:
    with h5py.File(stored, "r+") as file:
        file.attrs[key] = value
    assert "format_version must be a positive integer" in refusal(stored, everything)


def test_a_list_of_texts_without_end(stored: Path) -> None:
    """HDF5 itself goes round an object of no size for ever."""
    raw = bytearray(stored.read_bytes())
    head = raw.index(b"GCOL") + 16
    raw[head : head + 16] = bytes(16)
    stored.write_bytes(raw)
    with pytest.raises(ValueError, match=r"the list of its texts has no end; the file is damaged"):
        read_dataset(stored)


def test_cut_off_anywhere(stored: Path) -> None:
    content = stored.read_bytes()
    for size in np.linspace(0, len(content) - 1, 12).astype(int):
        stored.write_bytes(content[:size])
        refusal(stored, everything)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("read", [everything, lambda path: read_molecules([path])], ids=["dataset", "molecules"])
def test_every_column_of_plain_files(tmp_path: Path, damage: str, read: Callable[[Path], object]) -> None:
    for name in ("offsets", "numbers", "positions", "energy", "smiles"):
        path = tmp_path / f"{name}.h5"
        with h5py.File(path, "w") as file:
            file["offsets"], file["numbers"] = [0, 2, 5], np.array([1, 1, 1, 8, 1])
            file["positions"] = np.arange(15.0).reshape(5, 3)
            file["energy"], file["smiles"] = [1.0, 2.0], ["[H][H]", "O"]
            shape, dtype, values = file[name].shape, file[name].dtype, file[name][()]
            del file[name]
            file.create_dataset(name, data=values, maxshape=(None, *shape[1:]), dtype=dtype, chunks=shape)
            DAMAGES[damage](file, name)
        if name in ("offsets", "numbers", "positions") or "link" in damage or damage in ("virtual", "huge"):
            refusal(path, read)
        else:  # what is no label that fits is left aside, or refused as the label that it was to be
            try:
                read(path)
            except ValueError as error:
                assert str(error).startswith(f"{path}: ")  # noqa: PT017 (both ends are sound)


def test_a_bomb_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """A hundred million atoms at one place: 2.4 GB that gzip makes 1000 times smaller, all of it really there."""
    path = tmp_path / "bomb.h5"
    atoms = 2**23
    with h5py.File(path, "w") as file:
        file["offsets"] = [0, atoms]
        for name, shape, dtype in (("numbers", (atoms,), "u1"), ("positions", (atoms, 3), "f8")):
            file.create_dataset(name, shape, dtype, chunks=(2**18, *shape[1:]), compression="gzip", fillvalue=1)
            for start in range(0, atoms, 2**18):
                file[name][start : start + 2**18] = 1
    assert os.path.getsize(path) < 1_000_000
    assert "positions declares 2.0e+08 bytes" in refusal(path, everything)
