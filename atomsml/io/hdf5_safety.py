"""HDF5 from strangers: damaged, or made to take all memory. All reading of HDF5 goes through here."""

from __future__ import annotations

import math
import mmap
import os
import struct
from functools import lru_cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np

# Positions are most of what such files hold and hardly shrink: a file that declares more than this has been made up.
LARGEST_RATIO = 100  # bytes of an array in memory for each byte of the file
ALLOWANCE = 64 * 2**20  # bytes that an array may take whatever the size of the file
HEAP = b"GCOL\x01\x00\x00\x00"  # with the only version there is
DAMAGED = "the file is damaged: take another copy, or make it again"


def open_hdf5(path: Path) -> h5py.File:
    """Open for reading.

    Raises:
        ValueError: not an HDF5 file, one that is cut off, or one whose texts would be read for ever.
    """
    try:
        file = h5py.File(path, "r")
    except Exception as error:  # where a file is damaged, h5py raises anything
        raise ValueError(f"{path}: cannot be read as HDF5 ({_line(error)}); check that it is complete") from error
    state = os.stat(path)
    if not _texts_end(path, state.st_size, state.st_mtime_ns):
        file.close()
        raise ValueError(f"{path}: the list of its texts has no end; {DAMAGED}")
    return file


@lru_cache(maxsize=256)
def _texts_end(path: Path, size: int, changed: int) -> bool:
    """Whether every global heap, where texts are kept, has objects that take room; HDF5 goes round one that takes none.

    HDF5 File Format Specification 3.0, section III.E: a heap is the head b"GCOL" (16 bytes with its size) and objects
    of a head (index, references, size; 16 bytes) and data padded to eight bytes; object 0 is the free rest, head
    included.
    """
    with open(path, "rb") as file, mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as raw:
        heap = raw.find(HEAP)
        while heap >= 0 and heap + 32 <= size:
            (length,) = struct.unpack_from("<Q", raw, heap + 8)
            place, end = heap + 16, min(heap + length, size)
            while place + 16 <= end:
                index, taken = struct.unpack_from("<H6xQ", raw, place)
                step = 16 + (taken + 7) // 8 * 8 if index else taken
                if step < 16:
                    return False
                place += step
            heap = raw.find(HEAP, heap + 1)
    return True


def checked_arrays(file: h5py.File) -> dict[str, h5py.Dataset]:
    """The arrays of a file's root, after a look at what all of them declare; groups are passed over, nothing is read.

    Raises:
        ValueError: an array that cannot be opened, that is a link, lies in another file, or takes far more memory than
            the file has bytes.
    """
    path, arrays = file.filename, {}
    try:
        links = {name: file.get(name, getlink=True) for name in file}
    except Exception as error:
        raise ValueError(f"{path}: its list of arrays cannot be read ({_line(error)}); {DAMAGED}") from error
    limit = ALLOWANCE + LARGEST_RATIO * os.path.getsize(path)
    for name, link in links.items():
        if not isinstance(link, h5py.HardLink):
            raise ValueError(f"{path}: {name} is a link to another place; copy the array itself into the file")
        try:
            item = file[name]
            if isinstance(item, h5py.Dataset):
                problem = _problem(item, limit)
                arrays[name] = item
            else:
                problem = ""
        except Exception as error:
            raise ValueError(f"{path}: {name} cannot be read ({_line(error)}); {DAMAGED}") from error
        if problem:
            raise ValueError(f"{path}: {name} {problem}")
    return arrays


def _problem(array: h5py.Dataset, limit: int) -> str:
    """What is wrong with what an array declares; empty where nothing is."""
    if array.is_virtual or array.external:
        return "lies in another file; copy the array itself into the file"
    chunk = math.prod(array.chunks or (0,)) * array.dtype.itemsize
    # an array that was never written takes no space in a file, but its whole size in memory
    size = max(math.prod(array.shape or ()) * array.dtype.itemsize, chunk)
    if size > limit:
        return f"declares {size:.1e} bytes, far more than the file can hold; {DAMAGED}"
    return ""


def check_written(array: h5py.Dataset) -> None:
    """Refuse an array of which a part was never written, which HDF5 would fill up.

    Raises:
        ValueError: names the array.
    """
    if array.size == 0:
        return
    try:
        if array.chunks is None:
            complete = array.id.get_storage_size() >= array.size * array.dtype.itemsize
        else:
            chunks = math.prod(-(-n // c) for n, c in zip(array.shape, array.chunks, strict=True))
            complete = array.id.get_num_chunks() == chunks
    except Exception as error:
        raise ValueError(f"{where(array)} cannot be read ({_line(error)}); {DAMAGED}") from error
    if not complete:
        raise ValueError(f"{where(array)} is not there in full, a part was never written; {DAMAGED}")


def read_array(array: h5py.Dataset, rows: Any = (), text: bool = False) -> np.ndarray:
    """Rows of an array, all by default; strings with `text`.

    Raises:
        ValueError: they cannot be read, or are no strings.
    """
    try:
        values: np.ndarray = np.asarray(array.asstr()[rows] if text else array[rows])
    except Exception as error:
        kind = " as text" if text else ""
        raise ValueError(f"{where(array)} cannot be read{kind} ({_line(error)}); {DAMAGED}") from error
    return values


def where(array: h5py.Dataset) -> str:
    """File and name of an array, for messages."""
    return f"{array.file.filename}: {array.name.removeprefix('/')}"


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
