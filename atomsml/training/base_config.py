"""What every training run is told, whatever is trained: frozen dataclasses that a YAML file fills.

The comment beside a field is its documentation: `commented_config` writes them into the file that a new user edits.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import typing
from dataclasses import dataclass, field
from typing import Any, Literal

from atomsml.training.optim.optimizers import OptimizerConfig
from atomsml.training.optim.schedules import ScheduleConfig

Clip = float | Literal["adaptive"]


@dataclass(frozen=True)
class RunConfig:
    """How weights follow gradients, until when, and what is kept."""

    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    clip: Clip = "adaptive"  # largest norm of the gradient; adaptive: by the norms of the last 50 steps
    ema_decay: float = 0.999  # of the averaged weights, which are evaluated and kept
    max_minutes: float | None = None  # the run ends at the first limit; the learning rate follows what is used up
    max_epochs: int | None = None  # passes over the training set
    max_steps: int | None = None  # of the optimiser
    evaluate_epochs: int | None = None  # between evaluations; null: at least 100 steps
    checkpoint_minutes: float = 5.0  # longest time between two checkpoints
    device: str = "auto"  # cpu, cuda, cuda:N or mps; auto takes a GPU if there is one
    loggers: tuple[Literal["tensorboard", "wandb"], ...] = ()  # beside metrics.jsonl and metrics.csv
    seed: int = 0  # of weights, batches, and whatever else is random

    def __post_init__(self) -> None:
        for name in ("max_minutes", "max_epochs", "max_steps", "clip"):
            value = getattr(self, name)
            if isinstance(value, int | float) and not value > 0:
                raise ValueError(f"{name} must be positive, got {value}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must lie in 0 .. 1, got {self.ema_decay}")


def write_config(config: Any) -> str:
    """YAML of a config dataclass, which `atomsml.yaml_file.read_mapping` reads back."""
    import yaml

    text: str = yaml.safe_dump(plain_config(config), sort_keys=False)
    return text


def plain_config(config: Any) -> dict[str, Any]:
    """A config dataclass as JSON has it: tuples become lists."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return plain


def commented_config(config: Any, indent: str = "") -> list[str]:
    """YAML lines of a config dataclass, each key with the comment of its field."""
    comments, hints = _field_comments(type(config)), typing.get_type_hints(type(config))
    lines, own = [], vars(type(config))["__annotations__"]
    for each in sorted(dataclasses.fields(config), key=lambda each: each.name not in own):  # then what is inherited
        value = getattr(config, each.name)
        notes = [comments[each.name]] if each.name in comments else []
        if dataclasses.is_dataclass(value):
            notes = notes or [(type(value).__doc__ or "").partition("\n")[0].rstrip(".")]
            lines += [f"{indent}{each.name}:  # {notes[0]}", *commented_config(value, indent + "  ")]
        elif isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0]):
            lines.append(f"{indent}{each.name}:  # {notes[0]}")
            for item in value:
                inner = commented_config(item, indent + "    ")
                lines += [f"{indent}  - {inner[0].lstrip()}", *inner[1:]]
        else:
            notes = [", ".join(_choices(hints[each.name])), *notes]
            note = "; ".join(filter(None, notes))
            lines.append(f"{indent}{each.name}: {json.dumps(value)}{note and '  # '}{note}")
    return lines


def _choices(hint: Any) -> list[str]:
    """The words that a Literal, or a union or tuple of such, allows."""
    if typing.get_origin(hint) is Literal:
        return list(typing.get_args(hint))
    return [word for part in typing.get_args(hint) for word in _choices(part)]


def _field_comments(config_class: type[Any]) -> dict[str, str]:
    """The comment behind each field in the source of a dataclass and its bases."""
    comments: dict[str, str] = {}
    for each in reversed(config_class.__mro__):
        if dataclasses.is_dataclass(each):
            found = re.finditer(r"^    (\w+): .*?  # (.+)$", inspect.getsource(each), flags=re.MULTILINE)
            comments |= {match[1]: match[2] for match in found}
    return comments
