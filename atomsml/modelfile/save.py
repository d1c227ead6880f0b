"""Write models: the file appears once it is complete."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from safetensors.torch import save as serialize
from torch import nn

from atomsml.io.outputs import write_atomically
from atomsml.modelfile.description import FORMAT, architecture_of
from atomsml.potential import Potential


def save(potential: Potential, path: str | Path, metadata: dict[str, Any]) -> None:
    """Write a potential and its description; the file appears under `path` only once it is complete.

    What the potential itself says (architecture, config, elements, references, cutoff) wins over `metadata`, so that
    the metadata of the model from which a training started can be passed on.

    Raises:
        ValueError: an architecture that could not be loaded again, or metadata that JSON cannot hold.
        OSError: the file cannot be written.
    """
    about = {"name": Path(path).stem, "kind": "unspecified", "references_kind": "given"}
    about |= dataclasses.asdict(potential.electronic_state)  # unless the metadata have them
    write_model(potential, path, {**about, **metadata, **describe(potential)})


def write_model(model: nn.Module, path: str | Path, description: dict[str, Any]) -> None:
    """Write the tensors and the description of any model; the file appears under `path` only once it is complete.

    Raises:
        ValueError: a description that JSON cannot hold.
        OSError: the file cannot be written.
    """
    try:
        text = json.dumps(description, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"model metadata must be plain JSON without NaN: {error}") from None
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    # not save_file, which makes files that no other user may read
    content = serialize(tensors, metadata={"atomsml": text})
    write_atomically(path, lambda beside: beside.write_bytes(content))


def describe(potential: Potential) -> dict[str, Any]:
    """What a potential says of itself: the first block of the table in atomsml.modelfile.description."""
    from ase.data import chemical_symbols

    from atomsml.potentials import POTENTIALS

    symbols = [chemical_symbols[z] for z in potential.elements]
    return {
        "format": FORMAT,
        **architecture_of(potential, POTENTIALS),
        "config": dataclasses.asdict(potential.config),
        "elements": symbols,
        "references": dict(zip(symbols, potential.references.tolist(), strict=True)),
        "cutoff": potential.cutoff,
        "parameters": sum(parameter.numel() for parameter in potential.parameters()),
    }
