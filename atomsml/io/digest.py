"""What structures are, as one short word: whether work that goes on has those with which it began."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import ase


def digest_of(structures: Iterable[tuple[str, ase.Atoms | str]]) -> str:
    """A hash of named structures, in their order, with what holds their atoms; or of words that say all of them."""
    digest = hashlib.sha256()
    for name, each in structures:
        digest.update(f"{name}\n".encode())
        if isinstance(each, str):
            digest.update(f"{each}\n".encode())
            continue
        for array in (each.numbers, each.positions, each.cell.array, each.pbc):
            digest.update(array.tobytes())
        for constraint in each.constraints:
            digest.update(f"{constraint.todict()}\n".encode())
    return digest.hexdigest()
