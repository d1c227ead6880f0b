"""A file under HDF5 on a disk that may be full: an error of writing that reaches HDF5 crashes the process."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any


class PatientFile(io.FileIO):
    """A file for reading and writing that never fails, but remembers the first error.

    After an error nothing more is written; the owner calls `raise_error` often enough to stop early.
    """

    error: OSError | None = None

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        size = len(rest)
        while self.error is None and len(rest):  # a disk that is nearly full takes a part
            try:
                rest = rest[super().write(rest) :]
            except OSError as error:
                self.error = error
        return size

    def readinto(self, buffer: Any) -> int:
        """As always; after an error with zeros in place of what was not written."""
        count = super().readinto(buffer) or 0
        size = len(memoryview(buffer).cast("B"))
        if self.error is not None:
            memoryview(buffer).cast("B")[count:] = bytes(size - count)
            return size
        return count

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0

    def raise_error(self, path: str | Path) -> None:
        """The error, if there was one, as an OSError that says that `path` cannot be written."""
        if self.error is not None:
            raise OSError(f"cannot write {path}: {os.strerror(self.error.errno or 0)}") from self.error
