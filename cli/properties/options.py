"""The options that all commands of properties have, as one argument of their functions."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from atomsml.cli.options import (
    ConfigOption,
    D3Option,
    ExactOption,
    FormatOption,
    Inputs,
    JsonOption,
    ModelOption,
    PrecisionOption,
    StrictOption,
)
from atomsml.cli.simulate.devices import DevicesOption
from atomsml.cli.simulate.identity import ResumeOption
from atomsml.cli.simulate.shards import ShardOption

RelaxOption = Annotated[
    bool, typer.Option("--relax/--no-relax", help="Relax first; otherwise what is given must be a minimum.")
]
FmaxOption = Annotated[float, typer.Option(help="Relaxed when no force is larger, eV/A.")]
StepsOption = Annotated[int, typer.Option(help="Give up a relaxation after this many steps.")]


@dataclass(frozen=True)
class Shared:
    """What every command of a property is told."""

    inputs: Inputs
    model: ModelOption = None
    d3: D3Option = None
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="A folder for table (.csv), everything (.json), and pictures and structures of each input. "
            "[default: named as the command]",
        ),
    ] = None
    pictures: Annotated[bool, typer.Option("--pictures/--no-pictures", help="Draw a picture of each structure.")] = True
    shard: ShardOption = None
    resume: ResumeOption = False
    device: DevicesOption = "auto"
    precision: PrecisionOption = "mixed"
    exact: ExactOption = False
    format: FormatOption = None
    strict: StrictOption = False
    config: ConfigOption = None
    as_json: JsonOption = False


def with_shared_options(function: Callable[..., None]) -> Callable[..., None]:
    """A command for typer of `function(context, shared, **own)`: its own options stand before the shared ones."""
    hints = get_type_hints(function, include_extras=True)
    shared_hints = get_type_hints(Shared, include_extras=True)
    keyword = inspect.Parameter.KEYWORD_ONLY
    own = [
        parameter.replace(annotation=hints[name], kind=keyword)
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "shared"
    ]
    parameters = inspect.signature(Shared).parameters.values()
    added = [each.replace(annotation=shared_hints[each.name], kind=keyword) for each in parameters]
    inputs, *others = added

    @wraps(function)
    def command(**options: Any) -> None:
        shared = Shared(**{each.name: options.pop(each.name) for each in fields(Shared)})
        function(shared=shared, **options)

    signature = inspect.Signature([own[0], inputs, *own[1:], *others])
    del vars(command)["__wrapped__"]  # whose signature typer would look at
    vars(command)["__signature__"] = signature
    command.__annotations__ = {each.name: each.annotation for each in signature.parameters.values()}
    return command
