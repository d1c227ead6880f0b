"""The output files of one command: made under hidden names, published together, or not at all.

| name | what it is |
|---|---|
| o.extxyz | what the last run published |
| .o.extxyz.partial | what a run is making |
| o.interrupted-1.extxyz | what a run that failed or was killed had made; of text, the whole frames and lines |
| o.previous-1.extxyz | what an interrupted run found under the name that its result has now |
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from atomsml.signals import held_stops

Result = TypeVar("Result")

LONGEST_NAME = 255  # bytes, on the usual file systems
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_atomically(path: str | Path, write: Callable[[Path], object]) -> None:
    """Call `write` with a path beside `path` and rename what it wrote: `path` is complete or untouched.

    An OutputSet of one file, of which what a killed run left is worth nothing; see there for what `write` is given and
    what is raised.
    """
    with OutputSet([Path(path)], keeps_remains=False) as files:
        files.write(Path(path), write)


class OutputSet:
    """The files that one command writes: `with OutputSet([log, summary]) as files: ...`.

    Files are made by `write`, anew whenever it is called, or by appending to what `growing` returns. They take their
    places together when the block ends, in the order of `targets`, the last of which should be the one that describes
    the others. After an exception everything stays as it was, and what had been made goes to names with `interrupted`.

    Set `interrupted` where a block ends early with what is finished: files that stood there move to names with
    `previous` then. So does at any end what stood in the place of a target that was not made.

    Args:
        targets: where files may go.
        keeps_remains: whether what a killed run left is put aside, or removed.

    Attributes:
        remains: sentences on what a killed run had left, and where it is now.
        kept: after an exception, where that is which had grown.
        previous: after the end, where that is which stood in the place of the targets.

    Raises:
        OSError: a folder that cannot be made or written to, a path that is not that of a file, a full disk, or files
            that another process is making.
    """

    def __init__(self, targets: Sequence[Path], keeps_remains: bool = True) -> None:
        self.interrupted = False
        self._keeps_remains = keeps_remains
        self.remains: list[str] = []
        self.kept: list[Path] = []
        self.previous: list[Path] = []
        self._places = {path: _Place(path) for path in targets}

    def __enter__(self) -> OutputSet:
        try:
            with held_stops():
                for place in self._places.values():
                    place.lock()
                self._clear()
        except BaseException:  # a request to stop that waited for the end of the block is one
            self._release()
            raise
        return self

    def growing(self, target: Path) -> Path:
        """The hidden file to which to append what is to be `target`; empty at first."""
        return self._places[target].partial

    def write(self, target: Path, write: Callable[[Path], Result]) -> Result:
        """Call `write` with a path whose name is that of `target`, by which formats are chosen, in a hidden folder.

        Returns what `write` returns.

        Raises:
            OSError: a full disk, with the name of `target`. Whatever else `write` raises.
        """
        place = self._places[target]
        hidden = place.folder / place.path.name
        with naming_file(target):
            place.folder.mkdir()
            try:
                result = write(hidden)
                place.take(hidden)
                return result
            except (OSError, ValueError) as error:
                if str(hidden) not in str(error):
                    raise
                kind = OSError if isinstance(error, OSError) else ValueError
                raise kind(str(error).replace(str(hidden), str(target))) from error
            finally:
                shutil.rmtree(place.folder, ignore_errors=True)

    def discard(self, target: Path) -> None:
        """Forget what was made of `target`, which is then as if it did not belong to the set."""
        self._places[target].discard()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with held_stops():
            try:
                if error is None:
                    self._publish()
                else:
                    self.kept = self._put_aside()
            finally:
                self._release()

    def _clear(self) -> None:
        """Put aside what a killed run left under hidden names."""
        left = [place for place in self._places.values() if place.folder.exists()]
        for place in left:
            shutil.rmtree(place.folder)
        number = _free_number([place.path for place in self._places.values()], "previous")
        for place in self._places.values():
            for older in place.keep_backup(number):
                self.remains.append(f"what {place.path} was before a run that was killed is in {older}")
        if not self._keeps_remains:
            for place in self._places.values():
                place.discard()
                place.discarded = False
        kept = self._put_aside()
        self.remains += [f"what a killed run had finished is in {path}" for path in kept]
        if left and not kept:
            self.remains.append(f"a killed run had not finished {', '.join(str(place.path) for place in left)}")

    def _put_aside(self) -> list[Path]:
        """Move what has grown to visible names, all with one number; returns these."""
        number = _free_number([place.path for place in self._places.values()], "interrupted")
        kept = []
        for place in self._places.values():
            if _cut_to_whole(place.partial, place.path.suffix):
                kept.append(visible(place.path, "interrupted", number))
                os.replace(place.partial, kept[-1])
        return kept

    def _publish(self) -> None:
        """Rename all; if one rename fails those done are undone."""
        places = [place for place in self._places.values() if not place.discarded]
        made = [place for place in places if place.is_made()]
        if not made:
            return
        alone = len(places) == 1 and not self.interrupted
        done: list[_Place] = []
        try:
            if not alone:  # the last first: nothing describes what is being exchanged
                for place in reversed(places):
                    place.back_up(stays=place in made and place is not places[-1])
            for place in made:
                with naming_file(place.path):
                    os.replace(place.partial, place.path)
                done.append(place)
        except BaseException:
            for place in done:
                os.replace(place.path, place.partial)
            for place in places:
                place.restore()
            self.kept = self._put_aside()
            raise
        number = _free_number([place.path for place in places], "previous")
        for place in places:
            if self.interrupted or place not in made:
                self.previous += place.keep_backup(number)
            else:
                place.backup.unlink(missing_ok=True)

    def _release(self) -> None:
        """Remove hidden files in which nothing is, and let others write."""
        for place in self._places.values():
            place.release()


class _Place:
    """One file of a set: where it goes, and the hidden names beside that place."""

    def __init__(self, shown: Path) -> None:
        self.shown = shown
        self.path = shown.resolve()  # a link stays one: what it points to is replaced
        self.partial = _hidden(self.path, "partial")
        self.folder = _hidden(self.path, "making")
        self.backup = _hidden(self.path, "before")
        self.written = False  # as a whole, though it may be empty
        self.discarded = False
        self._lock: int | None = None

    def lock(self) -> None:
        """Make the hidden file, or take over the one that a killed run left.

        Raises:
            OSError: as OutputSet.
        """
        if self.path.exists() and not self.path.is_file():
            raise OSError(f"cannot write {self.shown}: it exists and is not a file; choose another name")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.partial, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise _named(error, self.shown, f" in folder {self.path.parent}") from error
        if not try_to_lock(self._lock):
            os.close(self._lock)
            self._lock = None
            raise OSError(f"cannot write {self.shown}: another run is writing it; wait, or choose another name")

    def take(self, whole: Path) -> None:
        """Let a file that was made elsewhere be the hidden one, locked like the one before."""
        file = os.open(whole, os.O_RDWR)
        try_to_lock(file)
        os.replace(whole, self.partial)
        if self._lock is not None:
            os.close(self._lock)
        self._lock, self.written, self.discarded = file, True, False

    def discard(self) -> None:
        if self._lock is not None:
            os.truncate(self.partial, 0)
        self.written, self.discarded = False, True

    def is_made(self) -> bool:
        return self.written or (self.partial.exists() and self.partial.stat().st_size > 0)

    def back_up(self, stays: bool) -> None:
        """Give what stands here a hidden name; if it `stays`, a second one, where the file system can."""
        if not self.path.is_file():
            return
        self.backup.unlink(missing_ok=True)
        if stays:
            with contextlib.suppress(OSError):
                os.link(self.path, self.backup)
                return
        os.replace(self.path, self.backup)

    def restore(self) -> None:
        if self.backup.exists():
            os.replace(self.backup, self.path)
            self.backup.unlink(missing_ok=True)  # of two names of one file none was replaced

    def keep_backup(self, number: int) -> list[Path]:
        """Give what stood here a visible name, unless it still stands here; returns it."""
        if not self.backup.exists():
            return []
        if self.path.exists() and self.path.samefile(self.backup):
            self.backup.unlink()
            return []
        older = visible(self.path, "previous", number)
        os.replace(self.backup, older)
        return [older]

    def release(self) -> None:
        if self._lock is None:
            return
        if self.partial.exists() and self.partial.stat().st_size == 0:
            self.partial.unlink()
        os.close(self._lock)
        self._lock = None


@contextmanager
def naming_file(path: Path) -> Iterator[None]:
    """Let an error of the system say which file it is about: of a full disk it does not."""
    try:
        yield
    except OSError as error:
        hidden = error.filename is not None and Path(os.fsdecode(error.filename)).name.startswith(".")
        if error.errno is None or not (error.filename is None or hidden):
            raise
        raise _named(error, path) from error


def _named(error: OSError, path: Path, where: str = "") -> OSError:
    remedy = "make room, or choose another folder" if error.errno in FULL else "choose another folder"
    return OSError(f"cannot write {path}: {error.strerror or error}{where}; {remedy}")


def beside(path: Path, ending: str) -> Path:
    """`path` with `ending` in place of its suffix, cut where the name would be too long."""
    return path.with_name(_fitting(path.stem, ending))


def visible(path: Path, word: str, number: int) -> Path:
    """`o.interrupted-1.extxyz` for `o.extxyz`."""
    return beside(path, f".{word}-{number}{path.suffix}")


def _hidden(path: Path, word: str) -> Path:
    return path.with_name(_fitting(f".{path.name}", f".{word}"))


def _fitting(stem: str, ending: str) -> str:
    """`stem` and `ending`; a long stem keeps its beginning and a hash of all of it."""
    room = LONGEST_NAME - len(os.fsencode(ending))
    encoded = os.fsencode(stem)
    if len(encoded) > room:
        digest = hashlib.sha256(encoded).hexdigest()[:8]
        stem = encoded[: room - 40].decode(errors="ignore") + digest
    return stem + ending


def _free_number(paths: Sequence[Path], word: str) -> int:
    """The first number under which none of `paths` has a visible name."""
    number = 1
    while any(visible(path, word, number).exists() for path in paths):
        number += 1
    return number


def try_to_lock(file: int) -> bool:
    """Whether no other process has a lock on an open file; the lock ends with this process."""
    try:
        import fcntl
    except ImportError:  # Windows, where open files cannot be replaced anyway
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def _cut_to_whole(path: Path, suffix: str) -> bool:
    """Cut a text file that was torn off to its whole frames or lines; whether anything is left."""
    if not path.exists():
        return False
    if suffix in (".extxyz", ".xyz", ".csv"):
        with path.open("r+b") as file, contextlib.suppress(OSError):
            file.truncate(_whole_lines(path) if suffix == ".csv" else _whole_frames(path))
    return path.stat().st_size > 0


def _whole_lines(path: Path) -> int:
    """Bytes up to the end of the last whole line."""
    with path.open("rb") as file:
        return sum(len(line) for line in file if line.endswith(b"\n"))


def _whole_frames(path: Path) -> int:
    """Bytes up to the end of the last whole frame: a line with the number of atoms, a comment, a line for each atom."""
    end = 0
    with path.open("rb") as file:
        while (first := file.readline()).strip().isdigit():
            last = first
            for _ in range(int(first) + 1):
                last = last and file.readline()  # of a file at its end there are no more lines
            if not last.endswith(b"\n"):
                break
            end = file.tell()
    return end
