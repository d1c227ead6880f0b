"""The folder for what is kept between runs and can be had again: fetched models, compiled kernels."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

REMEDY = "set ATOMSML_CACHE to a folder of your own"


def cache_folder() -> Path:
    """ATOMSML_CACHE, else `atomsml` in XDG_CACHE_HOME or where the system keeps caches; made where it is missing.

    What others could put there is never used: the folder is made for this user alone, and one that somebody else owns
    or may write to is refused.

    Raises:
        OSError: it cannot be made, or is not this user's alone.
    """
    folder = _place()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except OSError as error:
        raise OSError(f"the cache {folder} cannot be made ({error.strerror}); {REMEDY}") from error
    if not is_private(found):
        remedy = f"remove the rights of others (chmod go-w {folder}), or {REMEDY}"
        raise OSError(f"the cache {folder} belongs to another user, or others may write to it; {remedy}")
    return folder


def is_private(found: os.stat_result) -> bool:
    """Whether a file or folder is this user's own, and nobody else may write to it.

    On Windows, whose rights `stat` does not tell, the folders of a user's profile are.
    """
    if sys.platform == "win32":
        return True
    return found.st_uid == os.getuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _place() -> Path:
    given = os.environ.get("ATOMSML_CACHE")
    if given:
        return Path(given).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # as the specification of these folders asks
        base = {
            "win32": os.environ.get("LOCALAPPDATA", "~/AppData/Local"),
            "darwin": "~/Library/Caches",
        }.get(sys.platform, "~/.cache")
    return Path(base).expanduser() / "atomsml"
