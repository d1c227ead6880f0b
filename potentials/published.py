"""Files of published potentials, whatever program wrote them, become potentials of this package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from atomsml.modelfile.inert_pickle import is_package, named_modules
from atomsml.potential import Potential


def read_published(path: str | Path, head: str | None = None) -> tuple[Potential, dict[str, Any]]:
    """The potential in a file of MACE, SevenNet or nequip, in float64, and metadata for modelfile.save.

    What a file is shows in its content. Nothing in it is executed, and neither mace, sevenn, nequip nor e3nn is needed.

    Args:
        head: which head of a MACE file, or modality of a SevenNet checkpoint, that has several; their names are in the
            message where it is left out.

    Raises:
        ValueError: no such head, none of these kinds of file, a model that would have to be computed differently, or a
            file that asks for names that no such model needs; the message says which.
        OSError: the file cannot be read.
    """
    if is_package(path):
        from atomsml.potentials.nequip import nequip_package

        return nequip_package.convert(path, head)
    if "mace" in named_modules(path, "a MACE or SevenNet checkpoint"):
        from atomsml.potentials.mace import checkpoint as mace_checkpoint

        return mace_checkpoint.convert(path, head)
    from atomsml.potentials.nequip import sevennet_checkpoint

    return sevennet_checkpoint.convert(path, head)
