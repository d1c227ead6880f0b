"""`atomsml convert`: official files of models become .safetensors files, runs of MD files of other programs."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from atomsml.potential import Potential


def convert(
    context: typer.Context,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Official MACE .model file, SevenNet .pth checkpoint, .nequip.zip, EDM generative_model_ema.npy; or "
            "the .h5 file of a run of md.",
        ),
    ],
    replicas: Annotated[
        bool,
        typer.Option("--replicas", help="Of a run with replica exchange: a file for each replica, not temperature."),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="[default: FILE with the suffix .safetensors]. Of a run: .extxyz, .traj, .dcd or XDATCAR.",
        ),
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(help="Which head of a MACE file, or modality of a SevenNet checkpoint, that has several."),
    ] = None,
    train: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="EDM: its training set, for what its files lack; may be repeated."),
    ] = None,
    trim: Annotated[
        bool,
        typer.Option(
            "--trim", help="SevenNet: a few radial functions for each layer instead of networks, a quarter smaller."
        ),
    ] = False,
) -> None:
    """Convert an official file of MACE, SevenNet, nequip or EDM, or a run of md.

    What a file is shows in its content. Nothing in it is executed, and the programs that wrote it are not needed. The
    args.pickle of EDM must lie beside its weights. Of several systems in a run each becomes a file.
    """
    from atomsml.cli.files import check_distinct
    from atomsml.cli.output import check_writable
    from atomsml.io.formats.run_trajectory import is_trajectory

    if is_trajectory(file):
        _convert_trajectory(context, file, output, replicas, {"--head": head, "--train": train, "--trim": trim})
        return
    if replicas:
        raise ValueError(f"--replicas is for runs of md, and {file} is none; leave it out")
    target = file.with_suffix(".safetensors") if output is None else output
    if target.suffix != ".safetensors":
        raise ValueError(f"the converted model must have the suffix .safetensors, got {target}")
    check_writable(target)
    check_distinct([target], context)
    from atomsml.generative.molecules.edm.checkpoint import is_checkpoint

    if is_checkpoint(file):
        _convert_generator(file, target, train, {"--head": head, "--trim": trim})
    elif train:
        raise ValueError(f"--train is for files of EDM, and {file} is none; leave it out")
    else:
        _convert_potential(file, target, head, trim)
    typer.echo(f"wrote {target}; `atomsml info {target}` describes it")


def _convert_trajectory(
    context: typer.Context, file: Path, output: Path | None, replicas: bool, of_others: dict[str, Any]
) -> None:
    """A run; `of_others` are the options of other files, as they were given."""
    from atomsml.cli.files import open_outputs
    from atomsml.cli.output import check_writable, numbered
    from atomsml.io.trajectory import Trajectory
    from atomsml.io.trajectory.export import exporter
    from atomsml.io.trajectory.replicas import replicas_of

    for option, value in of_others.items():
        if value:
            raise ValueError(f"{option} is for models, but {file} is a run of md; leave it out")
    if output is None:
        raise ValueError(f"{file} is a run of md: name the output with -o, for example {file.with_suffix('.extxyz')}")
    export = exporter(output)
    with Trajectory(file) as trajectory:
        systems = replicas_of(trajectory) if replicas else trajectory.systems
        names = numbered(output, len(systems))
        chosen = {path: system for path, system in zip(names, systems, strict=True) if len(system)}
        if not chosen:
            raise ValueError(f"{file} has no frames yet")
        for target in chosen:
            check_writable(target)
        with open_outputs(context, None, list(chosen)) as files:
            for target, system in chosen.items():
                files.write(target, partial(export, system))
        for target, system in chosen.items():
            typer.echo(f"wrote {target}: {len(system)} frames of {system.name}")
        for system in systems:
            if not len(system):
                reason = trajectory.endings.get(system.index, "it was not begun")
                typer.echo(f"note: {system.name} has no frames: {reason}", err=True)


def _convert_generator(file: Path, target: Path, train: list[Path] | None, of_others: dict[str, Any]) -> None:
    """A file of EDM; `of_others` are the options of other files, as they were given."""
    from atomsml.generative.core.modelfile import save_generator
    from atomsml.generative.molecules.edm import checkpoint
    from atomsml.generative.molecules.edm.model import EDM

    for option, value in of_others.items():
        if value:
            raise ValueError(f"{option} is for potentials, but {file} is a generator; leave it out")
    model, metadata = checkpoint.convert(file, EDM.read(train) if train else None)
    save_generator(model, target, metadata)


def _convert_potential(file: Path, target: Path, head: str | None, trim: bool) -> None:
    from atomsml.modelfile import save
    from atomsml.potentials.published import read_published

    potential, metadata = read_published(file, head)
    if trim:
        potential, metadata["trim"] = _trimmed(potential, file)
    save(potential, target, metadata)


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
