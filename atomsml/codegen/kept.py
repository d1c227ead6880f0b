"""Machine code kept between processes, in the user's cache.

A function is known by all that decides its code (`key`): which one it is, its arguments, every source file of atomsml,
the versions of the libraries, and the processor. Whatever of these changes, it is compiled anew.

Machine code from a file runs with the rights of the user, so that a file is taken only if nobody else can have written
it: it and its folder belong to the user, and no other may write to them. It begins with the SHA-256 of the key and of
all that follows: what is damaged, cut short or belongs to another key is not run but made again. Where nothing can be
kept (a full disk, no rights) functions are compiled as if there were no cache, which ATOMSML_KERNEL_CACHE=off asks for.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import llvmlite
import numpy as np
import torch

from atomsml import IMPORTED
from atomsml.cache import cache_folder, is_private
from atomsml.codegen.checks import checking
from atomsml.codegen.machine import object_code, processor

PACKAGE = Path(__file__).parents[1]  # all of atomsml
MOST_BYTES = 64_000_000  # in the folder; the oldest files go
CLOCK = 2.0  # s, to which the times of files may be rounded
DIGEST = 32  # bytes of a SHA-256

_log = logging.getLogger(__name__)


class Translation(NamedTuple):
    """A function as LLVM was given it, and what it made of it."""

    facts: dict[str, Any]  # its name and how it is called: anything that JSON holds
    compressed_text: bytes
    code: bytes  # an object file

    @staticmethod
    def of(facts: dict[str, Any], text: str, optimise: bool = False) -> Translation:
        return Translation(facts, zlib.compress(text.encode(), 1), object_code(text, optimise))

    @property
    def text(self) -> str:
        return zlib.decompress(self.compressed_text).decode()

    def to_bytes(self) -> bytes:
        head = json.dumps({"facts": self.facts, "text": len(self.compressed_text)})
        return b"\n".join((head.encode(), self.compressed_text + self.code))

    @staticmethod
    def from_bytes(content: bytes) -> Translation:
        head, _, rest = content.partition(b"\n")
        known = json.loads(head)
        return Translation(known["facts"], rest[: known["text"]], rest[known["text"] :])


def kept(translate: Callable[[], Translation], function: Callable[..., Any], *arguments: object) -> Translation:
    """What `translate` gives, or gave another process that had the same `function` and arguments.

    Args:
        function: that decides, with the arguments alone, what `translate` gives.

    Raises:
        ValueError: ATOMSML_KERNEL_CACHE is neither on nor off.
    """
    wanted = os.environ.get("ATOMSML_KERNEL_CACHE", "on")
    if wanted not in ("on", "off"):
        raise ValueError(f"ATOMSML_KERNEL_CACHE, whether compiled kernels are kept, is on or off, not {wanted!r}")
    name = key(function, *arguments) if wanted == "on" else None
    content = None if name is None else read(name)
    if content is not None:
        return Translation.from_bytes(content)
    found = translate()
    if name is not None and name == key(function, *arguments):  # no source has changed meanwhile
        write(name, found.to_bytes())
    return found


def key(function: Callable[..., Any], *arguments: object) -> str | None:
    """The name under which code is kept; None where it is not known what the code depends on.

    That is so of functions outside atomsml, of arguments other than numbers, words, dtypes, tuples and dataclasses, and
    once a source file has changed while the process runs.
    """
    if not function.__module__.startswith("atomsml.") or "<" in function.__qualname__:
        return None
    sources = fingerprint(PACKAGE, IMPORTED)
    given = _written(arguments)
    if sources is None or given is None:
        return None
    parts = [sources, *_surroundings(), function.__module__, function.__qualname__, str(checking()), given]
    return sha256(json.dumps(parts).encode()).hexdigest()


def fingerprint(folder: Path, before: float) -> str | None:
    """SHA-256 of all Python files below a folder; None if one has changed since a time: what runs may be older."""
    files = _sources(folder)
    try:
        states = [os.stat(file) for file in files]
        newest = max(max(found.st_mtime, found.st_ctime) for found in states)
        return None if newest >= before - CLOCK else _digest_of_files(files, newest)
    except OSError:  # one is gone
        return None


@lru_cache(maxsize=1)
def _sources(folder: Path) -> tuple[str, ...]:
    found = []
    for place, _, names in os.walk(folder, followlinks=True):
        found += [os.path.join(place, name) for name in names if name.endswith(".py")]
    return tuple(sorted(found))


@lru_cache(maxsize=1)
def _digest_of_files(files: tuple[str, ...], newest: float) -> str:
    digests = [sha256(Path(file).read_bytes()).hexdigest() for file in files]
    return sha256(json.dumps([files, digests]).encode()).hexdigest()


@lru_cache
def _surroundings() -> tuple[str, ...]:
    """What else decides the code, beside sources and arguments."""
    return (sys.version, llvmlite.__version__, torch.__version__, np.__version__, *processor())


def _written(value: object) -> str | None:
    """In words that no other value has; None if there may be none."""
    if value is None or type(value) in (int, float, bool, str, torch.dtype):
        return repr(value)
    if isinstance(value, tuple):
        parts = [_written(x) for x in value]
    elif is_dataclass(value):
        parts = [_written(getattr(value, field.name)) for field in fields(value)]
    else:
        return None
    return None if None in parts else f"{type(value).__module__}.{type(value).__qualname__}{parts}"


def read(name: str) -> bytes | None:
    """What is kept under a name; None if there is nothing that may be trusted."""
    try:
        with (_folder() / name).open("rb") as file:
            if not is_private(os.fstat(file.fileno())):
                return None
            content = file.read()
    except OSError as error:
        _log.debug("no kernel is read: %s", error)
        return None
    digest, rest = content[:DIGEST], content[DIGEST:]
    return rest if digest == _digest(name, rest) else None


def write(name: str, content: bytes) -> None:
    """Keep something under a name, at once or not at all, and let go of the oldest where there is too much."""
    try:
        folder = _folder()
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
            try:
                file.write(_digest(name, content) + content)
                file.close()
                os.replace(file.name, folder / name)
            except OSError:
                os.unlink(file.name)
                raise
        _remove_oldest(folder)
    except OSError as error:
        _log.debug("a kernel is not kept: %s", error)


def _digest(name: str, content: bytes) -> bytes:
    return sha256(name.encode() + content).digest()


def _folder() -> Path:
    folder = cache_folder() / "kernels"
    folder.mkdir(mode=0o700, exist_ok=True)
    if not is_private(folder.stat()):
        raise PermissionError(f"others may write to {folder}")
    return folder


def _remove_oldest(folder: Path) -> None:
    files = sorted(((found := file.stat()).st_mtime, found.st_size, file) for file in folder.iterdir())
    size = sum(file[1] for file in files)
    for _, bytes_, file in files:
        if size <= MOST_BYTES:
            break
        file.unlink(missing_ok=True)
        size -= bytes_
