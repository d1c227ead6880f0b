"""`atomsml info`: what a model file says about itself."""

from __future__ import annotations

from typing import Annotated

import typer

from atomsml.cli.options import JsonOption


def info(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name of an embedded model, or a file.")],
    as_json: JsonOption = False,
) -> None:
    """Describe a model: elements, training, errors, licence."""
    import yaml

    from atomsml.cli.output import print_json
    from atomsml.modelfile import find_model, model_hash, read_metadata

    about = {**read_metadata(model), "file": str(find_model(model)), "sha256": model_hash(model)}
    if as_json:
        print_json(about)
    else:
        typer.echo(
            yaml.safe_dump(about, sort_keys=False, default_flow_style=None, width=100, allow_unicode=True), nl=False
        )
