"""A file is as one of its commits left it, wherever the writing process is killed and whenever the disk is full."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from atomsml.io.trajectory.committed_file import PAGE, USER_BLOCK, CommittedFile, first_head
from atomsml.io.trajectory.committed_hdf5 import CommittedHDF5, ConsistentReader

WORDS = 40  # numbers in a row


def new(path: Path) -> None:
    path.write_bytes(first_head(USER_BLOCK).ljust(USER_BLOCK, b"\0"))


def fill(path: Path, *values: int) -> None:
    """A file with an array whose rows all have the same value: that of the last commit."""
    new(path)
    with CommittedFile(path, writes=True) as file:
        with h5py.File(path.with_suffix(".tmp"), "w", userblock_size=USER_BLOCK) as hdf5:
            hdf5.create_dataset(
                "rows", (0, WORDS), maxshape=(None, WORDS), chunks=(8, WORDS), dtype=np.int64, shuffle=True
            )
            hdf5.create_dataset("last", data=0)
        content = path.with_suffix(".tmp").read_bytes()
        file.seek(USER_BLOCK)
        file.write(content[USER_BLOCK:])
        file.commit()
    for value in values:
        add(path, value)


def add(path: Path, value: int) -> None:
    """Three more rows, and the value in all that were there, as one commit."""
    with CommittedHDF5(path, writes=True) as file:
        rows = file.hdf5["rows"]
        rows.resize(len(rows) + 3, axis=0)
        rows[...] = np.arange(len(rows) * WORDS).reshape(-1, WORDS) * value
        file.hdf5["last"][...] = value
        file.commit()


def value_of(path: Path, writes: bool = False) -> int:
    """That of the last commit; all rows agree with it."""
    with CommittedHDF5(path, writes) as file:
        value, rows = int(file.hdf5["last"][()]), file.hdf5["rows"][()]
    assert len(rows) == 3 * value
    np.testing.assert_array_equal(rows, np.arange(rows.size).reshape(rows.shape) * value)
    return value


def kill_at(number: int, torn: int, work: Callable[[], None]) -> bool:
    """Do the work in a fork that ends within its call `number` that changes the file; whether it ended there.

    Of what that call should write, the first `torn` bytes are written.
    """
    child = os.fork()
    if child == 0:
        count = 0
        pwrite, ftruncate = os.pwrite, os.ftruncate

        def writing(file: int, data: bytes, place: int) -> int:
            nonlocal count
            count += 1
            if count > number:
                pwrite(file, bytes(data)[:torn], place)
                os.kill(os.getpid(), signal.SIGKILL)
            return pwrite(file, data, place)

        def truncating(file: int, size: int) -> None:
            nonlocal count
            count += 1
            if count > number:
                os.kill(os.getpid(), signal.SIGKILL)
            ftruncate(file, size)

        os.pwrite, os.ftruncate = writing, truncating
        try:
            work()
        except BaseException:
            os._exit(9)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL)
    return status != 0


@pytest.mark.parametrize("torn", [0, 1, 60, 1000])
def test_killed_at_every_write_of_a_commit_the_file_is_as_before_or_as_after(tmp_path: Path, torn: int) -> None:
    seen, number, killed = set(), 0, True
    fill(tmp_path / "before.h5", 1, 2)
    before = (tmp_path / "before.h5").read_bytes()
    path = tmp_path / "run.h5"
    while killed:
        path.write_bytes(before)
        killed = kill_at(number, torn, lambda: add(path, 3))
        left = path.read_bytes()
        looked = value_of(path)
        assert path.read_bytes() == left  # reading changes nothing
        assert value_of(path, writes=True) == looked
        with h5py.File(path) as plain:  # repaired, it is a file for every program
            assert plain["last"][()] == looked
        add(path, looked + 1)
        assert value_of(path) == looked + 1
        seen.add(looked)
        number += 1
    assert seen == {2, 3}
    assert number >= 8


def test_a_full_disk_leaves_the_file_and_says_so(tmp_path: Path) -> None:
    """A limit on the size of files stops the writing as a full disk does."""
    resource = pytest.importorskip("resource", reason="limits on file sizes are set by POSIX systems only")
    path = tmp_path / "run.h5"
    fill(path, 1, 2)
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        for room in (0, 100, PAGE):
            resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + room, limits[1]))
            with pytest.raises(OSError, match=r"cannot write .*run\.h5: File too large; make room"):
                add(path, 3)
            assert path.read_bytes() == before
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    add(path, 3)
    assert value_of(path) == 3


def test_a_reader_sees_whole_commits_while_another_process_writes(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    fill(path, 1)
    reader = ConsistentReader(path)
    child = os.fork()
    if child == 0:
        for value in range(2, 10_000):
            add(path, value)
        os._exit(0)
    seen = set()
    try:
        while len(seen) < 12:
            value, rows = reader.read(lambda hdf5: (int(hdf5["last"][()]), hdf5["rows"][()]))
            np.testing.assert_array_equal(rows, np.arange(rows.size).reshape(rows.shape) * value)
            assert len(rows) == 3 * value
            seen.add(value)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert value_of(path, writes=True) >= max(seen)


def test_bytes_are_those_of_an_ordinary_file(tmp_path: Path) -> None:
    """Random reads and writes, with commits between them, give what a file in memory gives."""
    path, rng = tmp_path / "run.h5", np.random.default_rng(0)
    new(path)
    expected = bytearray(path.read_bytes())
    for _ in range(20):
        with CommittedFile(path, writes=True) as file:
            for _ in range(20):
                place, count = int(rng.integers(USER_BLOCK, 5 * PAGE)), int(rng.integers(0, 2 * PAGE))
                data = rng.bytes(count)
                file.seek(place)
                file.write(data)
                if count:
                    expected.extend(bytes(max(0, place + count - len(expected))))
                    expected[place : place + count] = data
                file.seek(USER_BLOCK)
                assert file.read() == bytes(expected[USER_BLOCK:])
            file.commit()
        assert path.read_bytes()[USER_BLOCK:] == bytes(expected[USER_BLOCK:])


def test_one_process_writes(tmp_path: Path) -> None:
    fill(tmp_path / "run.h5", 1)
    with (
        CommittedFile(tmp_path / "run.h5", writes=True),
        pytest.raises(OSError, match=r"run\.h5: another run is writing it"),
    ):
        CommittedFile(tmp_path / "run.h5", writes=True)


@pytest.mark.parametrize("content", [b"", b"x" * 600, first_head(600).replace(b"commits", b"kommits")])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run.h5").write_bytes(content)
    with pytest.raises(ValueError, match=r"run\.h5: is no trajectory that atomsml wrote"):
        CommittedFile(tmp_path / "run.h5")
