"""Converted models in the user's cache folder, and the checksums of all that was fetched.

| in `cache_folder() / "models"` | what it is |
|---|---|
| NAME.safetensors | a converted model |
| SHA256SUMS | checksums of these, and of official files that nobody publishes one for, as `sha256sum` writes them |
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from atomsml.cache import cache_folder
from atomsml.fetch.published import published_model

SUMS = "SHA256SUMS"


def models_folder() -> Path:
    """Where fetched models are.

    Raises:
        OSError: as cache_folder.
    """
    folder = cache_folder() / "models"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def fetched_models() -> dict[str, Path]:
    """The models that were fetched, by name."""
    files = {path.stem: path for path in sorted(models_folder().glob("*.safetensors"))}
    return {name: path for name, path in files.items() if published_model(name) is not None}


def fetched_model(name: str) -> Path | None:
    """The file of a fetched model; None where no such model was fetched. Other names do not touch the disk."""
    if published_model(name) is None:
        return None
    path = models_folder() / f"{name}.safetensors"
    return path if path.is_file() else None


def keep(name: str, write: Callable[[Path], object]) -> Path:
    """Let `write` make the file of a fetched model, and remember its checksum; returns its place."""
    path = models_folder() / f"{name}.safetensors"
    write(path)
    remember(path.name, sha256(path))
    return path


def check_fetched(name: str) -> None:
    """Compare the file of a fetched model with its checksum; other names are none of ours.

    Raises:
        ValueError: it is not what was kept; says how to get it again.
    """
    path = fetched_model(name)
    if path is not None and remembered(path.name) != sha256(path):
        raise ValueError(f"the fetched model {path} is damaged; `{command(name)}` gets it again")


def command(name: str) -> str:
    """How to get the model that a name means.

    Raises:
        KeyError: it is none of the published.
    """
    model = published_model(name)
    if model is None:
        raise KeyError(name)
    heads = "|".join(model.heads) if name == model.name else name.removeprefix(f"{model.name}-")
    return f"atomsml fetch {model.name}" + (f" --head {heads}" if heads else "")


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remembered(file_name: str) -> str | None:
    """The checksum of a file of this name, if there is one."""
    return _sums().get(file_name)


def remember(file_name: str, checksum: str) -> None:
    """Keep the checksum of a file, whatever other processes keep at the same time."""
    path = models_folder() / SUMS
    with locked(path):
        sums = _sums() | {file_name: checksum}
        beside = path.with_name(f".{SUMS}.new")
        beside.write_text("".join(f"{value}  {name}\n" for name, value in sorted(sums.items())), encoding="utf-8")
        os.replace(beside, path)


def _sums() -> dict[str, str]:
    path = models_folder() / SUMS
    if not path.exists():
        return {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return {name: value for value, _, name in (line.partition("  ") for line in lines)}


@contextmanager
def locked(path: Path, waiting: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Let one process at a time do something about `path`; `waiting` is called where another one is at it."""
    with path.with_name(f".{path.name}.lock").open("w") as file:
        try:
            import fcntl
        except ImportError:  # Windows
            yield
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:  # a file system without locks
            pass
        yield
