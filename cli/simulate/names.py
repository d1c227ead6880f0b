"""Names of the files of many structures in one folder, by their sources."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atomsml.io import Refused, StructureRecord


def names_by_source(inputs: Sequence[StructureRecord | Refused], suffix: str) -> list[str]:
    """A file name for each input, no two the same whatever the case of the letters.

    With the suffix `.extxyz`, `many/a.cif` gives `a.extxyz`, its frame 3, if it has several, `a-3.extxyz`; where files
    of different folders have one name, those of the folders come before it.
    """
    from atomsml.cli.files import is_path

    stems = {each.file: _stem(each.file) for each in inputs}
    counts = Counter(stem.casefold() for stem in stems.values())
    for file, stem in stems.items():
        if counts[stem.casefold()] > 1 and is_path(file) and (folder := Path(file).parent.name):
            stems[file] = f"{folder}-{stem}"
    frames = Counter(each.file for each in inputs)
    names, taken = list[str](), set[str]()
    for each in inputs:
        stem = stems[each.file]
        if frames[each.file] > 1:
            stem = f"{stem}-{each.index}"
        names.append(_free(stem, suffix, taken))
        taken.add(names[-1].casefold())
    return names


def _stem(file: str) -> str:
    """Of a file its name without suffixes, of a SMILES its letters and digits."""
    from atomsml.cli.files import is_path
    from atomsml.io.formats.source import plain_name

    if is_path(file):
        return Path(plain_name(Path(file))).stem
    return re.sub(r"[^A-Za-z0-9]+", "_", file).strip("_") or "structure"


def _free(stem: str, suffix: str, taken: set[str]) -> str:
    from atomsml.io.outputs import beside

    tries = (beside(Path(f"{stem}{more}{suffix}"), suffix).name for more in chain([""], (f"-{i}" for i in count(2))))
    return next(name for name in tries if name.casefold() not in taken)
