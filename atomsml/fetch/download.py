"""One file over HTTP: whole, or kept as far as it came, under a name with .part, to go on from there.

    download("https://.../some.model", Path("some.model"), size=32_581_838)

Proxies are those of the usual environment variables (https_proxy, no_proxy, ...), certificates those of Python.
"""

from __future__ import annotations

import http.client
import os
import re
import shutil
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from atomsml import __version__
from atomsml.io.outputs import naming_file

Progress = Callable[[int, int | None], None]  # bytes that are there, and of how many

TIMEOUT = 30.0  # s without a byte
PAUSES = (1.0, 3.0, 10.0)  # s before the next try; counted anew whenever a try brought anything
LARGEST = 2**31  # bytes of a file whose size is not known; published models have up to 134 million
BLOCK = 2**16
PASSING = (408, 425, 429, 500, 502, 503, 504)  # answers of a server after which it is worth trying again
ELSEWHERE = "get the file on another machine and give it with --from FILE"


class Broken(OSError):
    """A transfer that ended early: the next try may go on."""


def download(
    url: str,
    target: Path,
    size: int | None = None,
    progress: Progress = lambda done, total: None,
    pauses: Sequence[float] = PAUSES,
) -> None:
    """Download a file, which appears under `target` once it is complete.

    Args:
        size: bytes that it must have, where they are known.
        progress: is told how far it is, after every block.
        pauses: seconds to wait before each further try.

    Raises:
        ValueError: the server gives something else: a web page, another size, or more than a model can have.
        OSError: no way to the server, it refuses, the transfer broke off too often, or the disk is full.
    """
    part = part_of(target)
    left = iter(pauses)
    while True:
        before = _size(part)
        try:
            _transfer(url, part, size, progress)
            break
        except Broken as error:
            if _size(part) > before:
                left = iter(pauses)
            pause = next(left, None)
            if pause is None:
                raise OSError(f"{error}; {words_on_rest(part)}") from None
            time.sleep(pause)
    os.replace(part, target)
    _validator(part).unlink(missing_ok=True)


def part_of(target: Path) -> Path:
    """Where a file is until it is complete."""
    return target.with_name(f"{target.name}.part")


def _transfer(url: str, part: Path, size: int | None, progress: Progress) -> None:
    """Complete `part`, from its end where the server can say that it still has the same file."""
    validator = _validator(part)
    start = _size(part) if validator.exists() else 0
    if size is not None and start == size:
        return
    headers = {"User-Agent": f"atomsml/{__version__}", "Accept-Encoding": "identity"}
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": validator.read_text(encoding="latin-1")}
    with _answer(url, headers, part) as answer:
        begin, total = _part(answer)
        if answer.status == http.HTTPStatus.PARTIAL_CONTENT and begin != start:
            raise _anew(url, part)
        _check(url, answer, total, size)
        limit = LARGEST if total is None else total
        _check_room(part, 0 if total is None else total - begin)
        _remember(validator, answer)
        with naming_file(part), part.open("ab" if begin else "wb") as file:
            done = begin
            for block in _blocks(url, answer):
                done += len(block)
                if done > limit:
                    part.unlink()
                    raise ValueError(f"{url} has more than {limit} bytes; no published model is so large")
                file.write(block)
                file.flush()
                progress(done, total)
    if total is not None and done != total:
        raise Broken(f"{url}: the server ended the transfer after {done} of {total} bytes")


def words_on_rest(part: Path) -> str:
    """What becomes of a transfer that has ended early."""
    if part.exists():
        return f"{part} holds what came, and the same command goes on from there"
    return "nothing is kept, and the same command starts anew"


def _validator(part: Path) -> Path:
    """Beside `part`: by what the server tells this version of the file from others."""
    return part.with_name(f"{part.name}.version")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@contextmanager
def _answer(url: str, headers: dict[str, str], part: Path) -> Iterator[Any]:
    """The answer of the server to a request, with errors that say what can be done."""
    host = urlsplit(url).netloc
    try:
        answer = urllib.request.build_opener(_SafeRedirects).open(
            urllib.request.Request(url, headers=headers), timeout=TIMEOUT
        )
    except urllib.error.HTTPError as error:
        with error:
            if error.code in PASSING:
                raise Broken(f"{url}: the server answers {error.code} {error.reason}") from None
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise _anew(url, part) from None
            raise OSError(f"{url}: the server answers {error.code} {error.reason}; {ELSEWHERE}") from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError | ConnectionResetError):
            raise Broken(f"{host} does not answer ({error.reason})") from None
        raise OSError(f"no way to {host} ({_reason(error.reason)}); {_remedy(error.reason)}") from None
    except (OSError, http.client.HTTPException) as error:
        raise Broken(f"{url}: the transfer broke off ({error or type(error).__name__})") from None
    with answer:
        yield answer


def _anew(url: str, part: Path) -> Broken:
    """Forget what was downloaded, which the server cannot continue."""
    part.unlink(missing_ok=True)
    return Broken(f"{url}: the server cannot send the rest of what was downloaded before")


def _reason(reason: str | BaseException) -> str:
    return getattr(reason, "strerror", None) or str(reason)


def _remedy(reason: str | BaseException) -> str:
    if isinstance(reason, ssl.SSLError):
        return f"set SSL_CERT_FILE to the certificates of your network, or {ELSEWHERE}"
    if isinstance(reason, socket.gaierror | ConnectionRefusedError):
        return f"behind a proxy set https_proxy; without network {ELSEWHERE}"
    return ELSEWHERE


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but not from an encrypted connection to one that anybody can change."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if urlsplit(req.full_url).scheme == "https" and urlsplit(newurl).scheme != "https":
            raise urllib.error.URLError(f"it redirects to {newurl}, which is not encrypted")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _part(answer: Any) -> tuple[int, int | None]:
    """Where in the file the bytes begin that a server sends, and how many the whole file has, where the server says."""
    length = answer.headers.get("Content-Length", "")
    if answer.status != http.HTTPStatus.PARTIAL_CONTENT:
        return 0, int(length) if length.isdigit() else None
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
    if match is None or (match[2] != "*" and int(match[2]) <= int(match[1])):
        return 0, None
    return int(match[1]), int(match[2]) if match[2] != "*" else None


def _check(url: str, answer: Any, total: int | None, size: int | None) -> None:
    """Refuse what cannot be the file before its first byte is stored."""
    if answer.headers.get_content_type() == "text/html":
        raise ValueError(web_page(url))
    if size is not None and total not in (size, None):
        raise ValueError(f"{url} has {total} bytes, but the published file has {size}; the source is not what it was")
    if total is not None and total > LARGEST:
        raise ValueError(f"{url} has {total} bytes; no published model is so large")


def web_page(source: str | Path) -> str:
    """Words for a page where a model should be."""
    return f"{source} is a web page, not a model: of a login, a proxy, or a file that has moved; {ELSEWHERE}"


def _check_room(part: Path, needed: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise OSError(
            f"{part.parent} has room for {free / 1e6:.0f} MB, but {needed / 1e6:.0f} MB are still to come; make room, "
            "or set ATOMSML_CACHE to a folder elsewhere"
        )


def _remember(validator: Path, answer: Any) -> None:
    """Keep the strong ETag of an answer, or else its date; without either nothing can be resumed."""
    tag = answer.headers.get("ETag", "")
    words = tag if tag.startswith('"') else answer.headers.get("Last-Modified", "")
    if words:
        validator.write_text(words, encoding="latin-1")
    else:
        validator.unlink(missing_ok=True)


def _blocks(url: str, answer: Any) -> Iterator[bytes]:
    while True:
        try:
            block = answer.read1(BLOCK)
        except (OSError, http.client.HTTPException) as error:
            raise Broken(f"{url}: the transfer broke off ({error or type(error).__name__})") from None
        if not block:
            return
        yield block
