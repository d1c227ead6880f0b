"""Generators of molecules from their files."""

from __future__ import annotations

from pathlib import Path

import torch

from atomsml.generative.core import modelfile
from atomsml.generative.molecules.model import MoleculeModel


def load_generator(name_or_path: str | Path, device: torch.device | str = "cpu") -> MoleculeModel:
    """The generator of an embedded name or of a file, as `core.modelfile.load_generator` reads it.

    Raises:
        ValueError: what that refuses, or a generator of something else than molecules.
    """
    model = modelfile.load_generator(name_or_path, device)
    if not isinstance(model, MoleculeModel):
        raise ValueError(f"{name_or_path} draws {model.kind}, not molecules; use `atomsml generate {model.kind}`")
    return model
