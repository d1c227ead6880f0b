"""Save and load generators: one .safetensors file, as safe as that of a potential (atomsml/modelfile/).

| key | meaning |
|---|---|
| format | version of the layout |
| generates, kind | what it draws, as "molecules"; the same in words, as "generator of molecules" |
| architecture, config | which class of `atomsml.generative.GENERATORS`; fields of its `Config` |
| package | which package has the architecture, where that is not atomsml; absent otherwise |
| parameters | number of trainable parameters |
| elements, conditions, ... | what a kind says beside these (`Generator.describe`) |
| name, training, metrics, licence, ... | anything JSON can hold |
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch

from atomsml.generative import GENERATORS
from atomsml.generative.core.generator import Generator
from atomsml.modelfile import (
    FORMAT,
    architecture_of,
    build_within_budget,
    check_claims,
    check_tensors,
    checked_config,
    find_model,
    generated_kind,
    known_architecture,
    load_tensors,
    read_metadata,
    write_model,
)


def save_generator(model: Generator[Any, Any, Any], path: str | Path, metadata: dict[str, Any]) -> None:
    """Write a generator and its description; what the generator itself says wins over `metadata`.

    Raises:
        ValueError: a class that is not in GENERATORS, or metadata that JSON cannot hold.
        OSError: the file cannot be written.
    """
    own = {
        **model.describe(),
        "format": FORMAT,
        "kind": f"generator of {model.kind}",
        "generates": model.kind,
        **architecture_of(model, GENERATORS),
        "config": dataclasses.asdict(model.config),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
    if generated_kind(own) is None:
        raise ValueError(f"the kind of a generator is a word of small letters, digits and hyphens, not {model.kind!r}")
    write_model(model, path, {"name": Path(path).stem, **metadata, **own})


def load_generator(name_or_path: str | Path, device: torch.device | str = "cpu") -> Generator[Any, Any, Any]:
    """The generator of an embedded name or of a file, in the precision in which it was saved.

    Raises:
        ValueError: no such model, one that is no generator, or a file that is no (complete, known, consistent) model
            file; says which.
    """
    path = find_model(name_or_path)
    description = read_metadata(path)
    if generated_kind(description) is None:
        raise ValueError(
            f"{name_or_path} is a potential, not a generator; `atomsml models` lists the generators, and "
            "`atomsml train` makes one"
        )
    model_class = GENERATORS[known_architecture(path, description, GENERATORS)]
    config = checked_config(path, description, model_class.Config)
    model = build_within_budget(path, lambda: model_class(config))
    model.to(check_tensors(path, model))
    load_tensors(path, model)
    try:
        model.check_tables()
        model.recall(description)
    except ValueError as error:
        raise ValueError(f"model file {path} is damaged: {error}") from None
    check_claims(path, description, model.describe())
    return model.eval().requires_grad_(False).to(device)
