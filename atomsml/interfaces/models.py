"""Whatever names a model, opened: an embedded or fetched name, a file, a folder of a committee, or the model itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from atomsml.modelfile import find_model, load, named_model, read_metadata
from atomsml.potential import Potential
from atomsml.uncertainty import Committee, committee_files
from atomsml.uncertainty.last_layer import LastLayerUncertainty, is_uncertainty, model_of

Model = Potential | Committee | LastLayerUncertainty


def theory_of(source: str | list[Any]) -> str:
    """The level of theory that the file of a model says it learned; nothing where it says nothing.

    `source` is what `open_model` returns.
    """
    if isinstance(source, list):
        return theory_of(source[0]) if source else ""
    if named_model(source) is None and not Path(source).is_file():
        return theory_of([str(file) for file in committee_files(source)]) if Path(source).is_dir() else ""
    file = model_of(source) if named_model(source) is None and is_uncertainty(source) else source
    return str(read_metadata(file).get("theory", ""))


def open_model(model: Any, head: str | None) -> tuple[str | list[Any], Model]:
    """Where a model comes from, as `AtomsMLCalculator.parameters` say it, and the model; a list is a committee.

    Raises:
        ValueError: no such model, or no such head; says which there are.
    """
    if isinstance(model, list | tuple):
        opened: list[tuple[Any, Any]] = [open_model(member, head) for member in model]
        return [source for source, _ in opened], Committee([member for _, member in opened])
    source, known = str(model), "default"
    potential: Model
    if isinstance(model, Model):
        source, potential = type(model).__name__, model
    elif named_model(source) is not None:
        potential = load(source)  # first: it finds damage
        known = read_metadata(source).get("head", "default")
    elif Path(model).is_dir():
        return str(Path(model).resolve()), open_model(committee_files(model), head)[1]
    else:
        source = str(find_model(model).resolve())
        last_layer = is_uncertainty(source)
        known = read_metadata(model_of(source) if last_layer else source).get("head", "default")
        potential = LastLayerUncertainty.load(source) if last_layer else load(source)
    if head not in (None, known):
        raise ValueError(f"unknown head {head!r}; {source} has one head: {known!r}")
    return source, potential
