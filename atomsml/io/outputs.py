"""Files that are complete or untouched."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def write_atomically(path: str | Path, write: Callable[[Path], object]) -> None:
    """Call `write` with a path beside `path` and rename what it wrote: `path` is complete or untouched.

    The temporary file has the final name, in a hidden folder of its own, because formats are chosen by name. Parent
    folders are made.

    Raises:
        OSError: a folder that cannot be made or written to, a path that is not that of a file, or a full disk.
        Whatever `write` raises, after its file has been removed.
    """
    target = Path(path).resolve()  # a link stays one: what it points to is replaced
    if target.exists() and not target.is_file():
        raise OSError(f"cannot write {path}: it exists and is not a file; choose another name")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.")
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"cannot write {path}: {reason} in folder {target.parent}; choose another folder") from error
    with folder as name:
        temporary = Path(name) / target.name
        try:
            write(temporary)
        except OSError as error:
            if error.filename is not None or error.errno is None:
                raise
            # of a full disk the system does not say which file
            raise OSError(f"cannot write {path}: {error.strerror}; make room, or choose another folder") from error
        os.replace(temporary, target)
