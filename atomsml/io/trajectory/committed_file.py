"""CommittedFile: a file that changes in commits, whole or not at all, whatever ends the process or fills the disk.

All writing stays in memory until `commit`, which does, and waits for the disk
between each two:

1. appends what lies beyond the committed size, where nobody looks yet, and behind it a journal of the pages to replace;
2. writes a head that says so: this is the moment of the commit;
3. replaces the pages;
4. writes a head without a journal.

Heads have two places in the first 512 bytes, which HDF5 leaves to the user, are written in turns and carry a checksum.
Of a process that ended before 2 nothing is there; after 2, whoever opens the file finds the journal and applies it.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from atomsml.io.outputs import naming_file, try_to_lock

USER_BLOCK = 512  # bytes before those of HDF5
PAGE = 4096
MAGIC = b"atomsml commits\n"
PLACES = (0, 256)  # of the heads whose generation is even and odd
HEAD = struct.Struct("<16sQQQQ")
WORD = struct.Struct("<Q")
DIGEST = 32


class Head(NamedTuple):
    """What is committed."""

    generation: int
    size: int  # of the file, bytes
    journal_start: int
    journal_size: int  # 0: there is none


def first_head(size: int) -> bytes:
    """The user block of a new file of this size."""
    return _packed(Head(0, size, 0, 0)).ljust(USER_BLOCK, b"\0")


def _packed(head: Head) -> bytes:
    packed = HEAD.pack(MAGIC, *head)
    return packed + WORD.pack(zlib.crc32(packed))


def _unpacked(block: bytes) -> Head | None:
    packed, check = block[: HEAD.size], block[HEAD.size : HEAD.size + WORD.size]
    if len(check) < WORD.size or WORD.unpack(check)[0] != zlib.crc32(packed) or not packed.startswith(MAGIC):
        return None
    return Head(*HEAD.unpack(packed)[1:])


def is_committed_file(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


class CommittedFile(io.RawIOBase):
    """The file as of its last commit, and the writing since then.

    Args:
        path: a file that begins with the user block of `first_head`.
        writes: whether to change it; of several processes one may.

    Raises:
        OSError: no such file, or another process is writing it.
        ValueError: it is no such file, or damaged.
    """

    def __init__(self, path: Path, writes: bool = False) -> None:
        self.path = path
        self._place, self._pages = 0, dict[int, bytearray]()
        self._file = os.open(path, os.O_RDWR if writes else os.O_RDONLY)
        try:
            if writes and not try_to_lock(self._file):
                raise OSError(f"cannot write {path}: another run is writing it; wait, or choose another name")
            self._head = self._read_head()
            self._size = self._head.size
            if writes:
                self._recover()
            else:
                self._look()
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:  # which h5py takes for the name of the file
        return str(self.path)

    @property
    def has_changed(self) -> bool:
        """Whether another process has committed, or begun to, since this file was opened."""
        return self._read_head().generation != self._head.generation

    def commit(self) -> None:
        """Make all that was written part of the file.

        Raises:
            OSError: a full disk, or whatever else the system says; the file is as it was after the last commit.
        """
        before, size = self._head, self._size
        pages = {n: bytes(page[: size - _start(n)]) for n, page in sorted(self._pages.items()) if _start(n) < size}
        replaced = {n: page for n, page in pages.items() if _start(n) < before.size}
        head = Head(before.generation + 1, size, max(size, before.size), 0)
        with naming_file(self.path):
            try:
                for n, page in pages.items():
                    if n not in replaced:
                        self._write_at(_start(n), page)
                journal = _journal(replaced)
                self._write_at(head.journal_start, journal)
                os.fsync(self._file)
            except BaseException:
                os.ftruncate(self._file, before.size)
                raise
            self._write_head(head._replace(journal_size=len(journal)))
            self._apply(replaced)
        self._pages.clear()

    def _apply(self, pages: dict[int, bytes]) -> None:
        """Replace pages; then the journal, in which they are as well, is not needed any more."""
        for n, page in pages.items():
            self._write_at(_start(n), page)
        os.fsync(self._file)
        self._write_head(Head(self._head.generation + 1, self._head.size, 0, 0))
        os.ftruncate(self._file, self._head.size)

    def _recover(self) -> None:
        """Finish the commit, or drop the beginning of one, that another process had to leave."""
        if self._head.journal_size:
            self._apply(self._read_journal())
        elif os.fstat(self._file).st_size != self._head.size:
            os.ftruncate(self._file, self._head.size)

    def _look(self) -> None:
        """See the file as a whole commit has it, while another process may be writing; leaves it as it is."""
        while True:
            try:
                pages = self._read_journal() if self._head.journal_size else {}
                if not self.has_changed:
                    self._pages = {n: bytearray(page.ljust(PAGE, b"\0")) for n, page in pages.items()}
                    return
            except ValueError:
                if not self.has_changed:
                    raise
            self._head = self._read_head()
            self._size = self._head.size

    def _read_head(self) -> Head:
        heads = [_unpacked(os.pread(self._file, HEAD.size + WORD.size, place)) for place in PLACES]
        known = [head for head in heads if head is not None]
        if not known:
            raise ValueError(f"{self.path}: is no trajectory that atomsml wrote; name another file")
        return max(known)

    def _write_head(self, head: Head) -> None:
        self._write_at(PLACES[head.generation % 2], _packed(head))
        os.fsync(self._file)
        self._head = head

    def _read_journal(self) -> dict[int, bytes]:
        start, size = self._head.journal_start, self._head.journal_size
        journal = os.pread(self._file, size, start)
        body, digest = journal[:-DIGEST], journal[-DIGEST:]
        if len(journal) != size or hashlib.sha256(body).digest() != digest:
            raise ValueError(f"{self.path}: its journal is damaged; take another copy")
        (count,) = WORD.unpack(body[: WORD.size])
        table = np.frombuffer(body, np.uint64, 2 * count, WORD.size).reshape(count, 2)
        place, pages = WORD.size + table.nbytes, {}
        for n, length in table.tolist():
            pages[n] = body[place : place + length]
            place += length
        return pages

    def _write_at(self, place: int, data: bytes) -> None:
        view = memoryview(data)
        while view:  # a disk that is getting full takes a part first
            written = os.pwrite(self._file, view, place)
            place, view = place + written, view[written:]

    # what h5py asks of a file

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        return self._place

    def tell(self) -> int:
        return self._place

    def truncate(self, size: int | None = None) -> int:
        self._size = self._place if size is None else size
        return self._size

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        view = memoryview(buffer).cast("B")
        start, count = self._place, max(0, min(len(view), self._size - self._place))
        there = os.pread(self._file, max(0, min(count, self._head.size - start)), start)
        view[: len(there)] = there
        view[len(there) : count] = bytes(count - len(there))
        for n in self._touched(start, count):
            if n in self._pages:
                low, high = max(start, _start(n)), min(start + count, _start(n + 1))
                view[low - start : high - start] = self._pages[n][low - _start(n) : high - _start(n)]
        self._place += count
        return count

    def write(self, data: memoryview) -> int:  # type: ignore[override]
        view = memoryview(data).cast("B")
        start, count = self._place, len(view)
        for n in self._touched(start, count):
            low, high = max(start, _start(n)), min(start + count, _start(n + 1))
            self._page(n)[low - _start(n) : high - _start(n)] = view[low - start : high - start]
        self._place += count
        self._size = max(self._size, self._place)
        return count

    def _page(self, n: int) -> bytearray:
        """A page to be changed."""
        if n not in self._pages:
            there = os.pread(self._file, max(0, min(PAGE, self._head.size - _start(n))), _start(n))
            self._pages[n] = bytearray(there.ljust(PAGE, b"\0"))
        return self._pages[n]

    @staticmethod
    def _touched(start: int, count: int) -> range:
        return range((start - USER_BLOCK) // PAGE, -(-(start + count - USER_BLOCK) // PAGE))

    def close(self) -> None:
        """Without a commit: what was not committed is lost."""
        if not self.closed:
            super().close()
            os.close(self._file)


def _start(n: int) -> int:
    """Where page n begins: none holds a part of the user block, which must not be replaced with it."""
    return USER_BLOCK + n * PAGE


def _journal(pages: dict[int, bytes]) -> bytes:
    """The number of pages; the number and length of each; the pages; and a checksum of all this."""
    table = np.array([(n, len(page)) for n, page in pages.items()], dtype=np.uint64)
    body = b"".join([WORD.pack(len(pages)), table.tobytes(), *pages.values()])
    return body + hashlib.sha256(body).digest()
