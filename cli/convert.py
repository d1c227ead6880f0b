"""`atomsml convert`: an official MACE file or a SevenNet checkpoint becomes a .safetensors file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from atomsml.potential import Potential


def convert(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Official MACE .model file, or SevenNet .pth checkpoint.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="[default: FILE with the suffix .safetensors]")
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(help="Which head of a MACE file, or modality of a SevenNet checkpoint, that has several."),
    ] = None,
    trim: Annotated[
        bool,
        typer.Option(
            "--trim", help="SevenNet: a few radial functions for each layer instead of networks, a quarter smaller."
        ),
    ] = False,
) -> None:
    """Convert an official MACE file or a SevenNet checkpoint.

    What a file is shows in its content. Nothing in it is executed, and neither mace, sevenn nor e3nn is needed.
    """
    from atomsml.cli.files import check_distinct
    from atomsml.cli.output import check_writable

    target = file.with_suffix(".safetensors") if output is None else output
    if target.suffix != ".safetensors":
        raise ValueError(f"the converted model must have the suffix .safetensors, got {target}")
    check_writable(target)
    check_distinct([target], context)
    from atomsml.modelfile import save
    from atomsml.potentials.published import read_published

    potential, metadata = read_published(file, head)
    if trim:
        potential, metadata["trim"] = _trimmed(potential, file)
    save(potential, target, metadata)
    typer.echo(f"wrote {target}; `atomsml info {target}` describes it")


def _trimmed(potential: Potential, file: Path) -> tuple[Potential, dict[str, Any]]:
    """The smaller potential, and what the metadata say of the trim."""
    from atomsml.potentials.nequip import NequIP
    from atomsml.potentials.nequip.trim import trim_radial

    if not isinstance(potential, NequIP):
        raise ValueError(f"--trim replaces the radial networks of SevenNet, but {file} is a MACE file; leave it out")
    trimmed, report = trim_radial(potential)
    before, after = report.parameters_before, report.parameters_after
    typer.echo(f"trimmed {before} parameters to {after} ({after / before - 1:.1%})")
    typer.echo("R2 of the radial functions by layer: " + ", ".join(f"{r2:.2%}" for r2 in report.r2))
    return trimmed, {"r2": list(report.r2), "parameters_before": before}
