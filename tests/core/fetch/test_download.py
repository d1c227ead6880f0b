"""Downloads from a server on this machine that is slow, breaks off, or gives something else."""

from __future__ import annotations

import http.client
import resource
import shutil
import socket
import urllib.error
from pathlib import Path
from types import SimpleNamespace
from urllib.request import Request

import numpy as np
import pytest

from atomsml.fetch import download as module
from atomsml.fetch.download import LARGEST, download
from tests.conftest import Web, WebFile

CONTENT = np.random.default_rng(0).bytes(50_000)
QUICK = (0.0, 0.0)  # s between tries


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "some.model"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_arrives_whole_and_says_how_far_it_is(web: Web, target: Path) -> None:
    web.files["/a"] = WebFile(CONTENT)
    steps: list[tuple[int, int | None]] = []
    download(f"{web.url}/a", target, len(CONTENT), lambda done, total: steps.append((done, total)))
    assert target.read_bytes() == CONTENT
    assert names(target.parent) == ["some.model"]
    assert steps[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in steps] == sorted({done for done, _ in steps})


@pytest.mark.parametrize("version", ['"1"', ""])
def test_a_transfer_that_breaks_off_goes_on(web: Web, target: Path, version: str) -> None:
    """From where it was, if the server tells versions apart; otherwise from the beginning."""
    web.files["/a"] = WebFile(CONTENT, version=version, breaks=[20_000, 7_000])
    download(f"{web.url}/a", target, pauses=QUICK)
    assert target.read_bytes() == CONTENT
    assert names(target.parent) == ["some.model"]
    ranges = [headers.get("Range") for _, headers in web.requests]
    assert ranges == ([None, "bytes=20000-", "bytes=27000-"] if version else [None] * 3)


def test_a_date_tells_versions_apart_as_well(web: Web, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weak ETags must not be sent with If-Range."""
    web.files["/a"] = WebFile(CONTENT, version='W/"1"', breaks=[20_000])
    with pytest.raises(OSError, match="ended the transfer"):
        download(f"{web.url}/a", target, pauses=())
    assert names(target.parent) == ["some.model.part"]
    answer = SimpleNamespace(headers={"ETag": 'W/"1"', "Last-Modified": "Mon, 30 Nov 2026 10:00:00 GMT"})
    module._remember(target, answer)
    assert target.read_text() == "Mon, 30 Nov 2026 10:00:00 GMT"


def test_what_came_is_kept_under_a_visible_name_for_the_next_call(web: Web, target: Path) -> None:
    web.files["/a"] = WebFile(CONTENT, breaks=[20_000, 0, 0])
    with pytest.raises(OSError, match=r"after 20000 of 50000 bytes; .*some\.model\.part holds what came, and the same"):
        download(f"{web.url}/a", target, pauses=QUICK)
    part = target.with_name("some.model.part")
    assert part.read_bytes() == CONTENT[:20_000]
    download(f"{web.url}/a", target)
    assert target.read_bytes() == CONTENT
    assert web.requests[-1][1]["Range"] == "bytes=20000-"
    assert names(target.parent) == ["some.model"]


def test_a_link_that_breaks_often_but_brings_something_each_time_gets_there(web: Web, target: Path) -> None:
    web.files["/a"] = WebFile(CONTENT, breaks=[5_000] * 9)
    download(f"{web.url}/a", target, pauses=(0.0,))
    assert target.read_bytes() == CONTENT


def test_a_new_version_is_not_glued_to_the_old_one(web: Web, target: Path) -> None:
    web.files["/a"] = WebFile(CONTENT, breaks=[20_000])
    with pytest.raises(OSError, match="the same command"):
        download(f"{web.url}/a", target, pauses=())
    web.files["/a"] = WebFile(CONTENT[::-1], version='"2"')
    download(f"{web.url}/a", target)
    assert target.read_bytes() == CONTENT[::-1]


def test_a_server_without_parts_starts_again(web: Web, target: Path) -> None:
    web.files["/a"] = WebFile(CONTENT, ranges=False, breaks=[20_000])
    download(f"{web.url}/a", target, pauses=QUICK)
    assert target.read_bytes() == CONTENT
    assert web.requests[-1][1]["Range"] == "bytes=20000-"


def test_a_process_that_was_killed_before_the_last_rename(web: Web, target: Path) -> None:
    target.with_name("some.model.part").write_bytes(CONTENT)
    target.with_name("some.model.part.version").write_text('"1"')
    download(f"{web.url}/a", target, len(CONTENT))
    assert (target.read_bytes(), web.requests) == (CONTENT, [])
    target.rename(target.with_name("some.model.part"))
    target.with_name("some.model.part.version").write_text('"1"')
    web.files["/a"] = WebFile(CONTENT, status=416)  # as servers answer a range behind the end

    def then_whole(*_: object) -> None:
        web.files["/a"] = WebFile(CONTENT)

    module.time.sleep, sleep = then_whole, module.time.sleep  # between the two tries
    try:
        download(f"{web.url}/a", target, pauses=QUICK)
    finally:
        module.time.sleep = sleep
    assert target.read_bytes() == CONTENT


def test_a_slow_server_is_waited_for_and_a_silent_one_is_not(
    web: Web, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.2)
    web.files["/slow"] = WebFile(CONTENT[:8_000], pause=0.05)  # longer than the limit, all together
    download(f"{web.url}/slow", target, pauses=())
    assert target.read_bytes() == CONTENT[:8_000]
    web.files["/silent"] = WebFile(CONTENT, pause=1.0)
    with pytest.raises(OSError, match=r"the transfer broke off .*timed out.*; .*holds what came"):
        download(f"{web.url}/silent", target, pauses=())


def test_redirects_are_followed_and_keep_the_range(web: Web, target: Path) -> None:
    web.files["/a"] = WebFile(status=302, location=f"{web.url}/b")
    web.files["/b"] = WebFile(CONTENT, breaks=[20_000])
    download(f"{web.url}/a", target, pauses=QUICK)
    assert target.read_bytes() == CONTENT
    assert [path for path, _ in web.requests] == ["/a", "/b"] * 2
    assert web.requests[-1][1]["Range"] == "bytes=20000-"


def test_redirects_do_not_leave_encrypted_connections() -> None:
    handler = module._SafeRedirects()
    request, found = Request("https://a.org/x"), http.client.HTTPMessage()
    with pytest.raises(urllib.error.URLError, match=r"redirects to http://b\.org/x, which is not encrypted"):
        handler.redirect_request(request, None, 302, "Found", found, "http://b.org/x")
    assert handler.redirect_request(request, None, 302, "Found", found, "https://b.org/x").full_url == "https://b.org/x"


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (WebFile(b"<html>", kind="text/html; charset=utf-8"), "is a web page, not a model: .*--from FILE"),
        (WebFile(CONTENT[:-1]), "has 49999 bytes, but the published file has 50000"),
        (WebFile(CONTENT, length=10**15), "has 1000000000000000 bytes, but the published"),
        (WebFile(status=404), "the server answers 404 Not Found; .*--from FILE"),
        (WebFile(status=403), "the server answers 403 Forbidden; .*--from FILE"),
        (WebFile(status=503), "the server answers 503 Service Unavailable; nothing is kept, "),
        (WebFile(status=302, location="file:///etc/passwd"), "not allowed"),
    ],
)
def test_what_is_not_the_file_leaves_nothing(web: Web, target: Path, file: WebFile, message: str) -> None:
    web.files["/a"] = file
    with pytest.raises((OSError, ValueError), match=message):
        download(f"{web.url}/a", target, len(CONTENT), pauses=())
    assert names(target.parent) == []


def test_sizes_nobody_published_have_a_limit(web: Web, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    web.files["/declared"] = WebFile(CONTENT, length=LARGEST + 1)
    with pytest.raises(ValueError, match="no published model is so large"):
        download(f"{web.url}/declared", target, pauses=())
    assert names(target.parent) == []
    monkeypatch.setattr(module, "LARGEST", 10_000)
    web.files["/endless"] = WebFile(CONTENT, length=-1)
    with pytest.raises(ValueError, match="more than 10000 bytes; no published model is so large"):
        download(f"{web.url}/endless", target, pauses=())
    assert names(target.parent) == ["some.model.part.version"]
    web.files["/short"] = WebFile(CONTENT[:9_000], length=-1)
    download(f"{web.url}/short", target)
    assert target.read_bytes() == CONTENT[:9_000]


def test_a_full_disk_is_said_before_and_while_it_fills(web: Web, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    web.files["/a"] = WebFile(CONTENT)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=100))
        with pytest.raises(OSError, match="has room for 0 MB, but 0 MB are still to come; make room"):
            download(f"{web.url}/a", target)
    assert names(target.parent) == []

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))  # which the system answers as it does a full quota
    try:
        with pytest.raises(OSError, match=r"cannot write .*some\.model\.part: File too large; make room"):
            download(f"{web.url}/a", target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    download(f"{web.url}/a", target)
    assert target.read_bytes() == CONTENT
    assert web.requests[-1][1]["Range"] is not None


def test_no_way_to_a_server(target: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(OSError, match=rf"no way to 127.0.0.1:{port} \(Connection refused\); behind a proxy .* --from"):
        download(f"http://127.0.0.1:{port}/a", target)


def test_proxies_of_the_environment_are_asked(web: Web, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", web.url)
    web.files["http://models.example/a"] = WebFile(CONTENT)
    download("http://models.example/a", target)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("answered", ["bytes 0-49999/50000", "bytes 20000-19999/0", "nonsense", ""])
def test_parts_that_do_not_continue_the_file_are_not_appended(web: Web, target: Path, answered: str) -> None:
    """Servers that answer a request for a part with another one: the next try begins anew."""
    web.files["/a"] = WebFile(CONTENT, breaks=[20_000])
    with pytest.raises(OSError, match="the same command"):
        download(f"{web.url}/a", target, pauses=())
    web.files["/a"].answered = [answered]
    download(f"{web.url}/a", target, pauses=QUICK)
    assert target.read_bytes() == CONTENT
