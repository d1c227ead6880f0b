"""`atomsml models`: the models that come with atomsml, those that were fetched, and those that can be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from atomsml.cli.options import JsonOption

if TYPE_CHECKING:
    from pathlib import Path

    from atomsml.fetch.published import PublishedModel

KEYS = ("kind", "architecture", "parameters", "theory", "data", "licence", "citation")
COLUMNS = ("name", "status", "kind", "elements", "theory", "licence", "size", "architecture", "citation")
LISTED = 10  # elements, of which a table gives the symbols


def models(as_json: JsonOption = False) -> None:
    """List the embedded and the fetched models, and those that `atomsml fetch` gets."""
    from atomsml.cli.output import print_json, print_table
    from atomsml.fetch.kept import fetched_models
    from atomsml.fetch.published import PUBLISHED
    from atomsml.modelfile import embedded_models

    try:
        fetched = fetched_models()
    except OSError as error:  # the others can be told all the same
        typer.echo(f"warning: {error}; which models were fetched is not known", err=True)
        fetched = {}
    records = [_here(name, path, "embedded") for name, path in embedded_models().items()]
    records += [_here(name, path, "fetched") for name, path in fetched.items()]
    for model in PUBLISHED.values():
        heads = [head for head in model.heads or (None,) if model.kept_name(head) not in fetched]
        records += [_to_fetch(model, head) for head in heads]
    if as_json:
        print_json(records)
    else:
        print_table(COLUMNS, [[_cell(record, column) for column in COLUMNS] for record in records])


def _here(name: str, path: Path, status: str) -> dict[str, Any]:
    """A model of which there is a file; what is wrong with a damaged one is said on stderr."""
    from atomsml.fetch.kept import check_fetched
    from atomsml.modelfile import read_metadata

    try:
        check_fetched(name)
        about = read_metadata(path)
    except ValueError as error:
        typer.echo(f"warning: {error}", err=True)
        about, status = {}, "damaged"
    elements = about.get("elements")
    count = None if elements is None else len(elements)
    return _record(name, status, about, count, path.stat().st_size) | {"elements": elements}


def _to_fetch(model: PublishedModel, head: str | None) -> dict[str, Any]:
    about = {key: getattr(model, key, None) for key in KEYS} | {"theory": model.heads.get(head or "", model.theory)}
    return _record(model.kept_name(head), "to fetch", about, model.elements, model.size)


def _record(name: str, status: str, about: dict[str, Any], count: int | None, size: int | None) -> dict[str, Any]:
    """The name is the one by which a model is loaded, whatever its file says; the size is in bytes."""
    known = {key: about.get(key) for key in KEYS}
    return {"name": name, "status": status, **known, "elements": None, "num_elements": count, "size": size}


def _cell(record: dict[str, Any], column: str) -> str:
    from atomsml.cli.models.fetch import megabytes

    value = record[column]
    if column == "size":
        return megabytes(value)
    if column == "elements":
        value = record["num_elements"] if value is None or len(value) > LISTED else " ".join(value)
    if value is None:
        return "-"
    if column == "licence":
        return str(value).partition(",")[0]
    return value.rpartition(", ")[2] if column == "citation" else str(value)
