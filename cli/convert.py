"""`atomsml convert`: an official MACE .model file becomes a .safetensors file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def convert(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Official MACE file, .model.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="[default: FILE with the suffix .safetensors]")
    ] = None,
    head: Annotated[str | None, typer.Option(help="Which head of a multi-head file.")] = None,
) -> None:
    """Convert an official MACE file.

    Nothing in it is executed, and neither mace nor e3nn is needed.
    """
    from atomsml.cli.output import check_writable

    target = file.with_suffix(".safetensors") if output is None else output
    if target.suffix != ".safetensors":
        raise ValueError(f"the converted model must have the suffix .safetensors, got {target}")
    check_writable(target)
    from atomsml.modelfile import save
    from atomsml.potentials import mace_checkpoint

    potential, metadata = mace_checkpoint.convert(file, head=head)
    save(potential, target, metadata)
    typer.echo(f"wrote {target}; `atomsml info {target}` describes it")
