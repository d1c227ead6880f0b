"""A cache for the whole run; tests that need a GPU, and how to run them; a server on this machine."""

import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch


def pytest_configure(config: pytest.Config) -> None:
    """Processes of one run, also those that tests start, share their kernels, and see no cache of the user."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        folder = os.environ["ATOMSML_CACHE"] = tempfile.mkdtemp(prefix="atomsml-tests-")
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available() or os.environ.get("TRITON_INTERPRET") == "1":  # which runs kernels on a CPU
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a GPU that torch can use; there: pytest -m gpu"))


@dataclass
class WebFile:
    """What a server says of one path, and how it behaves."""

    content: bytes = b""
    status: int = 200
    kind: str = "application/octet-stream"
    version: str = '"1"'  # its ETag; empty: none
    ranges: bool = True  # whether it sends parts
    length: int | None = None  # that it declares; -1: none
    breaks: list[int] = field(default_factory=list)  # after how many bytes each of the next answers breaks off
    answered: list[str] = field(default_factory=list)  # ranges that it claims to send, instead of the right ones
    pause: float = 0.0  # s after each block
    location: str = ""  # to which it redirects


class Web:
    """A server on this machine: files by path, and the headers of every request."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.files: dict[str, WebFile] = {}
        self.requests: list[tuple[str, Message]] = []


class _Handler(BaseHTTPRequestHandler):
    web: Web

    def log_message(self, *words: object) -> None:
        pass

    def do_GET(self) -> None:
        self.web.requests.append((self.path, self.headers))
        file = self.web.files.get(self.path, WebFile(b"not here", 404, "text/html"))
        begin = self._begin(file)
        body = file.content[begin:]
        self.send_response(206 if begin else file.status)
        if begin:
            right = f"bytes {begin}-{len(file.content) - 1}/{len(file.content)}"
            self.send_header("Content-Range", file.answered.pop(0) if file.answered else right)
        if file.location:
            self.send_header("Location", file.location)
        if file.length != -1:
            self.send_header("Content-Length", str(len(body) if file.length is None else file.length))
        if file.version:
            self.send_header("ETag", file.version)
        self.send_header("Content-Type", file.kind)
        self.end_headers()
        last = file.breaks.pop(0) if file.breaks else len(body)
        with suppress(ConnectionError):  # of a client that has seen enough
            for start in range(0, last, 1000):
                self.wfile.write(body[start : min(start + 1000, last)])
                self.wfile.flush()
                time.sleep(file.pause)
        self.close_connection = True

    def _begin(self, file: WebFile) -> int:
        """Where the answer begins: at 0 unless a part of this very version was asked for."""
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        told = file.ranges and file.status == 200
        return int(match[1]) if match and told and self.headers.get("If-Range") == file.version else 0


@pytest.fixture
def web() -> Iterator[Web]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        host, port = server.server_address[:2]
        _Handler.web = Web(f"http://{host}:{port}")
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield _Handler.web
        server.shutdown()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder without models, but with the kernels of this run; proxies of this machine are out of the way."""
    folder = tmp_path / "cache"
    folder.mkdir(0o700)
    kernels = Path(os.environ["ATOMSML_CACHE"], "kernels")
    kernels.mkdir(0o700, exist_ok=True)
    (folder / "kernels").symlink_to(kernels)
    monkeypatch.setenv("ATOMSML_CACHE", str(folder))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("ATOMSML_MIRROR", raising=False)
    return folder
