"""Errors that are no defects of the program, in one line: what, where, and the remedy."""

from __future__ import annotations

import sys
from pathlib import Path

# how torch and h5py say it, who have no types of their own for it
OUT_OF_MEMORY = ("not enough memory", "out of memory", "can't allocate memory", "bad_alloc")
DAMAGED = ("unable to ", "can't ", "unexpected end")
LONGEST, SHOWN_END = 800, 250  # characters of a line, and of those that are the last ones of longer words


def explained(error: Exception, arguments: list[str] | None = None) -> str | None:
    """One line for an error that the input or the machine caused; None for a defect, which keeps its traceback.

    Args:
        arguments: of the command, by default of the process: their files are named where the error names none.
    """
    words = " ".join(str(error)[:300].split())
    if isinstance(error, RecursionError):
        return f"something in {_files(arguments)} is nested too deeply; check the file"
    if isinstance(error, MemoryError) or _says(error, OUT_OF_MEMORY):
        return f"not enough memory{f' ({words})' if words else ''}; give smaller structures, or fewer at a time"
    if isinstance(error, ValueError | OSError):
        return one_line(str(error))
    if isinstance(error, _damaged_types()) or (_says(error, DAMAGED) and _raised_by(error, "h5py")):
        return f"{_files(arguments)} is damaged ({type(error).__name__}: {words}); copy or make it again"
    return None


def one_line(words: str) -> str:
    """Words without line breaks, and without their middle where they repeat a long piece of the input."""
    line = " ".join(words.split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - SHOWN_END - 5]} ... {line[-SHOWN_END:]}"


def _says(error: Exception, phrases: tuple[str, ...]) -> bool:
    return isinstance(error, RuntimeError | KeyError) and any(phrase in str(error).lower() for phrase in phrases)


def _damaged_types() -> tuple[type[Exception], ...]:
    import lzma
    import struct
    import zipfile
    import zlib

    from safetensors import SafetensorError

    of_python = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, struct.error)
    return (*of_python, SafetensorError)


def _raised_by(error: Exception, package: str) -> bool:
    """Whether the innermost code is that of a package."""
    trace, module = error.__traceback__, ""
    while trace is not None:
        module = trace.tb_frame.f_globals.get("__name__", "")
        trace = trace.tb_next
    return module.partition(".")[0] == package


def _files(arguments: list[str] | None) -> str:
    """The files among the words of the command line."""
    words = sys.argv[1:] if arguments is None else arguments
    files = [word for word in words if len(word) < 1000 and Path(word).is_file()]
    return " or ".join(files) or "a file that the command reads"
