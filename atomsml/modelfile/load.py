"""Read potentials from their files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn

from atomsml.fetch.kept import check_fetched
from atomsml.modelfile.catalogue import find_model
from atomsml.modelfile.checks import build_within_budget, check_claims, check_finite, check_tensors
from atomsml.modelfile.description import (
    checked_config,
    checked_state,
    generated_kind,
    known_architecture,
    read_metadata,
)
from atomsml.modelfile.save import describe
from atomsml.potential import Potential


def load(name_or_path: str | Path, device: torch.device | str = "cpu") -> Potential:
    """The potential of a name or of a file, in the precision in which it was saved, ready to evaluate.

        >>> from atomsml import load
        >>> load("refractory-pbe").elements
        (41, 42, 73, 74)

    Raises:
        ValueError: no such model, one that is no potential, or a file that is no (complete, known, consistent) model
            file; says which.
    """
    path = find_model(name_or_path)
    check_fetched(str(name_or_path))
    description = read_metadata(path)
    kind = generated_kind(description)
    if kind is not None:
        raise ValueError(
            f"{name_or_path} is a generator of {kind}, not a potential; draw {kind} with `atomsml generate {kind} "
            f"--model {name_or_path}`, or choose a potential (`atomsml models` lists both)"
        )
    model_class, config = _architecture(path, description)
    state = checked_state(path, description)
    potential = build_within_budget(path, lambda: model_class(config))
    potential.cast(check_tensors(path, potential))
    load_tensors(path, potential)
    potential.electronic_state = state
    own = describe(potential)
    check_claims(path, description, {key: own[key] for key in ("elements", "references", "cutoff")})
    return potential.eval().to(device)


def load_tensors(path: Path, model: nn.Module) -> None:
    """Put the tensors of a file, which `check_tensors` has compared, into a model.

    Raises:
        ValueError: a number in them is not finite.
    """
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name).clone() for name in model.state_dict()}
    check_finite(path, tensors)
    model.load_state_dict(tensors, assign=True)  # as they were saved; copies could round float64 buffers


def _architecture(path: Path, description: dict[str, Any]) -> tuple[type[Potential], Any]:
    """The class and the checked config that a file names."""
    from atomsml.potentials import POTENTIALS

    model_class = POTENTIALS[known_architecture(path, description, POTENTIALS)]
    if isinstance(description["config"], dict):
        description = {**description, "config": model_class.todays_config(description["config"])}
    return model_class, checked_config(path, description, model_class.Config)
