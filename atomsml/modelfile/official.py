"""What the readers of official files share: which head is meant, and how the file is recorded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from atomsml.fetch.kept import sha256


def choose_head(heads: Sequence[str], head: str | None) -> str:
    """The head of this name, or the only one.

    Raises:
        ValueError: no head of this name, or none named where there are several; lists those of the file.
    """
    if head is None and len(heads) == 1:
        return heads[0]
    if head is None or head not in heads:
        asked = "choose one with --head" if head is None else f"there is no head {head}"
        raise ValueError(f"{asked}; the file has {', '.join(heads)}")
    return head


def converted(path: Path, head: str, **about: Any) -> dict[str, Any]:
    """Metadata for modelfile.save of a potential that was read in an official file; `about` goes into its source."""
    source = {"file": path.name, "sha256": sha256(path), **about}
    return {"kind": "converted", "references_kind": "given", "head": head, "source": source}
