"""`atomsml merge`: the outputs of all shards as those of one run; one that lacks, or is there twice, is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def merge(
    shards: Annotated[
        list[Path],
        typer.Argument(metavar="SHARD...", help="Outputs or summaries of all shards, or the folder in which they are."),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Merged structures or table; others stand beside it. [default: as those of the shards, without the "
            "number of a shard]",
        ),
    ] = None,
) -> None:
    """Merge the outputs of `--shard 0/N` to `--shard N-1/N` in the order of the inputs.

    Refused are shards of different runs, interrupted ones, and sets of shards in which one lacks or is there twice.
    Trajectories of md and files of single structures stay where they are. The exit status is 1 if a structure failed in
    its shard.
    """
    from atomsml.cli.simulate.merged import Merged
    from atomsml.cli.simulate.parts import complete, read_parts
    from atomsml.io import OutputSet

    parts = complete(read_parts(shards))
    merged = Merged(parts, output)
    targets = merged.targets
    for path in targets:
        if path.exists():
            raise ValueError(f"{path} is there already; move it away, or choose another name with --output")
    with OutputSet(targets, keeps_remains=False) as files:
        merged.write(files)
    for note in merged.notes:
        typer.echo(f"note: {note}", err=True)
    typer.echo(f"{merged.structures} structures of {len(parts)} shards are in {', '.join(map(str, targets))}")
    for each in merged.failed:
        why = each.get("refused") or each.get("unfinished") or each["reason"]
        typer.echo(f"failed: {each['file']}, frame {each['index']}: {why}", err=True)
    if merged.failed:
        raise typer.Exit(1)
