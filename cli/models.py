"""`atomsml models`: the models that come with atomsml."""

from __future__ import annotations

from atomsml.cli.options import JsonOption


def models(as_json: JsonOption = False) -> None:
    """List the embedded models."""
    from atomsml.cli.output import print_json, print_table
    from atomsml.modelfile import embedded_models, read_metadata

    keys = ("name", "kind", "elements", "architecture", "parameters")
    descriptions = {name: read_metadata(name) for name in embedded_models()}
    # the name by which it is loaded is that of the file
    records = [{key: {**about, "name": name}[key] for key in keys} for name, about in descriptions.items()]
    if as_json:
        print_json(records)
    else:
        print_table(keys, [[_text(record[key]) for key in keys] for record in records])


def _text(value: str | int | list[str]) -> str:
    return " ".join(value) if isinstance(value, list) else str(value)
