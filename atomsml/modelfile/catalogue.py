"""The models that come with atomsml, and the file of a name."""

from __future__ import annotations

import hashlib
from pathlib import Path

MODELS_FOLDER = Path(__file__).parents[1] / "models"


def embedded_models() -> dict[str, Path]:
    """The models that come with atomsml, by name; each has a card NAME.md beside its file."""
    return {path.stem: path for path in sorted(MODELS_FOLDER.glob("*.safetensors"))}


def find_model(name_or_path: str | Path) -> Path:
    """The file of an embedded name, or the path itself where such a file exists.

    Raises:
        ValueError: neither; lists the embedded names.
    """
    embedded = embedded_models()
    if str(name_or_path) in embedded:
        return embedded[str(name_or_path)]
    path = Path(name_or_path)
    if not path.is_file():
        names = ", ".join(embedded) or "none"
        raise ValueError(f"unknown model {str(name_or_path)!r}: no such file, and the embedded models are: {names}")
    return path


def model_hash(name_or_path: str | Path) -> str:
    """SHA-256 of the model file, hexadecimal: what a summary records so that a run can be traced to its weights."""
    with find_model(name_or_path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
