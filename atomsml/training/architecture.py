"""A new model from a name, a size and options: what potentials and generators have in common."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, ClassVar, Protocol, TypeVar

import torch

from atomsml.architectures import Architectures
from atomsml.config import config_from_json, did_you_mean


class Architecture(Protocol):
    """What a class has that is built from a config."""

    Config: ClassVar[type[Any]]  # a frozen dataclass
    sizes: ClassVar[dict[str, dict[str, Any]]]  # name -> config fields

    def __init__(self, config: Any) -> None: ...


Model = TypeVar("Model", bound=Architecture)


def find_architecture(known: Architectures[Model], name: str, size: str) -> type[Model]:
    """The class of a name, which has such a size.

    Raises:
        ValueError: there is none; lists the known names or sizes.
    """
    if name not in known:
        raise ValueError(f"unknown model {name!r}; {did_you_mean(name, known)}there are {', '.join(known)}")
    model_class = known[name]
    if size not in model_class.sizes:
        meant = did_you_mean(size, model_class.sizes)
        raise ValueError(f"unknown size {size!r}; {meant}{name} has {', '.join(model_class.sizes)}")
    return model_class


def model_config(model_class: type[Model], options: dict[str, Any]) -> Any:
    """The config of an architecture from options as a person writes them.

    Raises:
        ValueError: an unknown option, or one of the wrong type; names it.
    """
    plain = json.loads(json.dumps(options, default=dataclasses.asdict))  # tuples become lists, as in a file
    return config_from_json(model_class.Config, plain, by_hand=True, where="model_options")


def new_model_of(model_class: type[Model], config: Any, seed: int) -> Model:
    """A model with random weights that the seed decides; the random state of the process stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return model_class(config)


def check_has_charges(model_class: type[Architecture]) -> None:
    """Refuse an architecture without charges.

    Raises:
        ValueError: names it.
    """
    if "charges" not in {field.name for field in dataclasses.fields(model_class.Config)}:
        raise ValueError(f"charges: a {model_class.__name__} has none; train a mace")
