"""The models that come with atomsml or were fetched, and the file of a name."""

from __future__ import annotations

from pathlib import Path

from atomsml.config import did_you_mean
from atomsml.fetch.kept import command, fetched_model, sha256
from atomsml.fetch.published import PUBLISHED, published_model

MODELS_FOLDER = Path(__file__).parents[1] / "models"


def embedded_models() -> dict[str, Path]:
    """The models that come with atomsml, by name; each has a card NAME.md beside its file."""
    return {path.stem: path for path in sorted(MODELS_FOLDER.glob("*.safetensors"))}


def named_model(name: str | Path) -> Path | None:
    """The file of an embedded model or of one that was fetched; None for all other words, among them paths."""
    return embedded_models().get(str(name)) or fetched_model(str(name))


def find_model(name_or_path: str | Path) -> Path:
    """The file of an embedded name or of a fetched one, or the path itself where such a file exists.

    Raises:
        ValueError: none of them; names the command that gets a published model, or lists the embedded names.
    """
    name, path = str(name_or_path), Path(name_or_path)
    known = named_model(name)
    if known is not None or path.is_file():
        return known or path
    model = published_model(name)
    if model is not None:
        heads = [other for other in map(model.kept_name, model.heads) if fetched_model(other) is not None]
        others = f" (here: {', '.join(heads)})" if heads else ""
        raise ValueError(f"the model {name} is not on this machine{others}; `{command(name)}` gets it")
    raise ValueError(
        f"unknown model {name!r}: no such file, and the embedded models are: {', '.join(embedded_models()) or 'none'}; "
        f"{did_you_mean(name, PUBLISHED)}`atomsml models` lists those that `atomsml fetch` gets"
    )


def model_hash(name_or_path: str | Path) -> str:
    """SHA-256 of the model file, hexadecimal: what a summary records so that a run can be traced to its weights."""
    return sha256(find_model(name_or_path))
