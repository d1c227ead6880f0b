"""Errors that the input or the machine causes are one line; defects keep their tracebacks."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from atomsml.errors import explained

Run = Callable[..., Any]


def raised(action: Callable[[], object]) -> Exception:
    try:
        action()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def nested() -> Any:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return repr(value)


def ask_torch_for_an_exabyte() -> None:
    torch.empty(2**57, dtype=torch.float64)


def damaged_hdf5(path: Path) -> Callable[[], object]:
    """A whole signature, and nothing that it leads to."""
    with h5py.File(path, "w") as file:
        file["values"] = np.arange(10_000)
    content = bytearray(path.read_bytes())
    content[96:600] = bytes(504)
    path.write_bytes(content)

    def read() -> object:
        with h5py.File(path) as file:
            return file["values"][:]

    return read


CAUSES: dict[str, tuple[Callable[[Path], Callable[[], object]], str]] = {
    "memory, of numpy": (lambda _: lambda: np.empty(2**57), "not enough memory"),
    "memory, of torch": (lambda _: ask_torch_for_an_exabyte, "not enough memory"),
    "depth": (lambda _: nested, "here.dat is nested too deeply"),
    "zip": (lambda path: lambda: zipfile.ZipFile(path), "here.dat is damaged (BadZipFile: "),
    "zlib": (lambda path: lambda: zlib.decompress(b"none"), "here.dat is damaged (error: "),
    "xz": (lambda path: lambda: lzma.decompress(b"none" * 9), "here.dat is damaged (LZMAError: "),
    "gzip": (lambda path: lambda: gzip.decompress(gzip.compress(b"abc" * 99)[:-9]), "here.dat is damaged (EOFError: "),
    "bz2": (lambda path: lambda: bz2.decompress(b"none"), "Invalid data stream"),
    "struct": (lambda path: lambda: struct.unpack("<Q", b"abc"), "here.dat is damaged (error: "),
    "text": (lambda path: lambda: b"\xff\xfe\xff".decode(), "can't decode"),
    "hdf5": (damaged_hdf5, ""),
}


@pytest.mark.parametrize("name", CAUSES)
def test_what_the_libraries_really_raise_is_explained(name: str, tmp_path: Path) -> None:
    path = tmp_path / "here.dat"
    path.write_bytes(b"nothing that anybody could read")
    action, words = CAUSES[name]
    found = explained(raised(action(path)), ["energy", str(path)])
    assert found is not None
    assert words in found
    assert "\n" not in found


def test_words_that_repeat_a_long_input_lose_their_middle() -> None:
    found = explained(ValueError(f"here.xyz: got {'x' * 70_000}\nwhich is no number; correct it"), [])
    assert found is not None
    assert len(found) <= 800
    assert found.startswith("here.xyz: got xxx")
    assert found.endswith("xxx which is no number; correct it")


def test_a_defect_is_not_explained() -> None:
    defects: list[Callable[[], object]] = [
        lambda: 1 / 0,
        lambda: {}["key"],
        lambda: [][1],
        lambda: None + 1,  # type: ignore[operator]
        lambda: torch.ones(2) @ torch.ones(3),
    ]
    for defect in defects:
        assert explained(raised(defect), []) is None


def test_where_no_file_is_known() -> None:
    assert explained(EOFError("short"), ["md"]) == (
        "a file that the command reads is damaged (EOFError: short); copy or make it again"
    )
