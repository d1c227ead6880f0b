"""A file as readers see it: decompressed, without a byte-order mark, in one encoding."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TextIO

OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
DAMAGED = (EOFError, lzma.LZMAError, gzip.BadGzipFile, zlib.error)
LATIN_1 = "atomsml-latin-1"  # how bytes that are no UTF-8 are read
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def _as_latin_1(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.end].decode("latin-1"), error.end


codecs.register_error(LATIN_1, _as_latin_1)


def plain_name(path: Path) -> str:
    """The name of a file without what says how it is compressed."""
    return path.stem if path.suffix.lower() in OPENERS else path.name


def format_suffix(path: Path) -> str:
    """What the name says of the format, in lower case, compressed or not."""
    return Path(plain_name(path)).suffix.lower()


@dataclass(frozen=True)
class Source:
    """A file, compressed (.gz, .bz2, .xz) or not."""

    path: Path

    @property
    def name(self) -> str:
        """As the user wrote it."""
        return str(self.path)

    @contextmanager
    def open_bytes(self) -> Iterator[BinaryIO]:
        """The decompressed bytes.

        Raises:
            ValueError: while they are read, from a file that is damaged or cut off.
        """
        try:
            with OPENERS.get(self.path.suffix.lower(), open)(self.path, "rb") as file:
                yield file
        except DAMAGED as error:
            raise ValueError(f"{self.name}: cannot be read ({error}); check that it is complete") from error

    def is_marked(self) -> bool:
        """Whether the file starts with a byte-order mark, which libraries stumble over."""
        with self.open_bytes() as file:
            return file.read(3).startswith((codecs.BOM_UTF8, *UTF_16))

    @contextmanager
    def open_text(self) -> Iterator[TextIO]:
        """Lines that end in a line feed, from UTF-8, UTF-16 or, where bytes are neither, Latin-1; errors as above."""
        with self.open_bytes() as file:
            start = file.read(2)
            file.seek(0)
            encoding = "utf-16" if start in UTF_16 else "utf-8-sig"
            # not closed with the text: that is what `open_bytes` does
            text = io.TextIOWrapper(file, encoding=encoding, errors=LATIN_1)
            try:
                yield text
            finally:
                text.detach()

    @contextmanager
    def plain_file(self, as_text: bool = False) -> Iterator[Path]:
        """A path of the decompressed file for libraries that open files themselves; with `as_text` in UTF-8."""
        if self.path.suffix.lower() not in OPENERS and not as_text:
            yield self.path
            return
        with tempfile.TemporaryDirectory(prefix="atomsml-") as folder:
            copy = Path(folder) / plain_name(self.path)
            if as_text:
                with self.open_text() as text, copy.open("w", encoding="utf-8") as out:
                    shutil.copyfileobj(text, out)
            else:
                with self.open_bytes() as file, copy.open("wb") as binary:
                    shutil.copyfileobj(file, binary)
            yield copy
