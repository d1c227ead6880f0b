"""Save and load generators of molecules: one .safetensors file, as safe as that of a potential (atomsml/modelfile/).

| key | meaning |
|---|---|
| format, kind | version of the layout; "molecule generator" |
| architecture, config | which class of `atomsml.generative.GENERATORS`; fields of its `Config` |
| elements, conditions | symbols, and names of the properties that may be asked for |
| molecules, smallest, largest | of the training set: how many, and the atoms of its smallest and largest |
| parameters | number of trainable parameters |
| name, training, metrics, licence, ... | anything JSON can hold |
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch

from atomsml.generative import GENERATORS
from atomsml.generative.molecules.compositions import MOST_ATOMS
from atomsml.generative.molecules.model import MoleculeModel
from atomsml.modelfile import (
    GENERATOR,
    architecture_of,
    build_within_budget,
    check_tensors,
    checked_config,
    find_model,
    known_architecture,
    load_tensors,
    read_metadata,
    write_model,
)


def save_generator(model: MoleculeModel, path: str | Path, metadata: dict[str, Any]) -> None:
    """Write a generator and its description; what the generator itself says wins over `metadata`.

    Raises:
        ValueError: a class that is not in GENERATORS, or metadata that JSON cannot hold.
        OSError: the file cannot be written.
    """
    write_model(model, path, {"name": Path(path).stem, **metadata, **_describe(model)})


def load_generator(name_or_path: str | Path, device: torch.device | str = "cpu") -> MoleculeModel:
    """The generator of an embedded name or of a file, in the precision in which it was saved.

    Raises:
        ValueError: no such model, one that is no generator, or a file that is no (complete, known, consistent) model
            file; says which.
    """
    path = find_model(name_or_path)
    description = read_metadata(path)
    if description.get("kind") != GENERATOR:
        raise ValueError(
            f"{name_or_path} is a potential, not a {GENERATOR}; `atomsml models` lists the generators, and "
            "`atomsml train` makes one"
        )
    model_class = GENERATORS[known_architecture(path, description, GENERATORS)]
    config = checked_config(path, description, model_class.Config)
    model = build_within_budget(path, lambda: model_class(config))
    model.to(check_tensors(path, model))
    load_tensors(path, model)
    _check_compositions(path, model)
    return model.eval().requires_grad_(False).to(device)


def _check_compositions(path: Path, model: MoleculeModel) -> None:
    """Refuse a histogram from which nothing that can be made is drawn."""
    for name, table in model.named_buffers():
        # how often a composition was seen; how many atoms of each kind it has
        wrong = table < 1 if name.endswith("_counts") else (table < 0) | (table > MOST_ATOMS)
        if not table.is_floating_point() and wrong.any():
            raise ValueError(f"model file {path} is damaged: its compositions are no counts from 0 to {MOST_ATOMS}")
    sizes = model.formulas.sum(dim=1)
    if (sizes < 1).any() or (sizes > MOST_ATOMS).any():
        raise ValueError(f"model file {path} is damaged: a composition has not 1 to {MOST_ATOMS} atoms")


def _describe(model: MoleculeModel) -> dict[str, Any]:
    from ase.data import chemical_symbols

    from atomsml.modelfile import FORMAT

    sizes = model.formulas.sum(dim=1)
    return {
        "format": FORMAT,
        "kind": GENERATOR,
        **architecture_of(model, GENERATORS),
        "config": dataclasses.asdict(model.config),
        "elements": [chemical_symbols[z] for z in model.config.elements],
        "conditions": list(model.config.conditions),
        "molecules": int(model.formula_counts.sum()),
        "smallest": int(sizes.min()) if len(sizes) else 0,
        "largest": int(sizes.max()) if len(sizes) else 0,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
