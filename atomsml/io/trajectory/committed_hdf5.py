"""CommittedHDF5: what h5py makes of a CommittedFile; ConsistentReader: the same while another process writes it."""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Self, TypeVar

import h5py

from atomsml.io.hdf5_safety import DAMAGED
from atomsml.io.trajectory.committed_file import CommittedFile

Result = TypeVar("Result")


class Closing(ABC):
    """Is closed at the end of a with block."""

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class CommittedHDF5(Closing):
    """An HDF5 file that changes in commits.

    h5py must be done with a file before Python is, or crashes: this one is closed when it is forgotten, and at the exit
    of the process. What was not committed is lost then.

    Args:
        path: a file with the user block of `first_head`.
        writes: whether to change it.

    Raises:
        OSError, ValueError: as CommittedFile; a file whose HDF5 is damaged.
    """

    def __init__(self, path: Path, writes: bool = False) -> None:
        self._file = CommittedFile(path, writes)
        try:
            self.hdf5 = h5py.File(self._file, "r+" if writes else "r")
        except Exception as error:  # where a file is damaged, h5py raises anything
            self._file.close()
            raise damaged(path, error) from error
        self._close = weakref.finalize(self, _close, self.hdf5, self._file)

    @property
    def has_changed(self) -> bool:
        """Whether another process has committed, or begun to, since this file was opened."""
        return self._file.has_changed

    def commit(self) -> None:
        """Make all that was written part of the file.

        Raises:
            OSError: as CommittedFile.
        """
        self.hdf5.flush()
        self._file.commit()

    def close(self) -> None:
        """Without a commit."""
        self._close()


def _close(hdf5: h5py.File, file: CommittedFile) -> None:
    hdf5.close()
    file.close()


class ConsistentReader:
    """Reads a file as one commit left it; opened when it is first read, and anew after each commit."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: CommittedHDF5 | None = None

    def read(self, read: Callable[[h5py.File], Result]) -> Result:
        """What `read` finds: again, if another process committed meanwhile.

        Raises:
            OSError: no such file.
            ValueError: it is no file of commits, or damaged.
        """
        while True:
            file = self._file = self._file or self._open()
            try:
                result = read(file.hdf5)
            except Exception as error:  # where a file is damaged, h5py raises anything
                if not file.has_changed:
                    raise damaged(self.path, error) from error
            else:
                if not file.has_changed:
                    return result
            self.close()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> CommittedHDF5:
        while True:
            with CommittedFile(self.path) as file:
                try:
                    return CommittedHDF5(self.path)
                except ValueError:
                    if not file.has_changed:
                        raise


def damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{path}: cannot be read ({' '.join(str(error).split())}); {DAMAGED}")
