"""`atomsml fetch`: from a server or a wheel to a model with a name, and `atomsml models` on the way."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np
import pytest
import torch
from ase.build import bulk

from atomsml import AtomicGraph, AtomsMLCalculator, evaluate, load
from atomsml.cli.models import fetch as command
from atomsml.fetch import published
from atomsml.fetch.published import PUBLISHED, PublishedModel
from atomsml.modelfile import read_metadata
from tests.conftest import Web, WebFile

Run = Callable[..., Any]

DATA = Path(__file__).parents[2] / "data"
SEVENNET = DATA / "sevennet" / "graded.pth"  # of sevenn 0.13.0, random weights
GRADED = "sevennet-graded"
HEADS = "mace-heads"


@pytest.fixture(autouse=True)
def table(web: Web, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, PublishedModel]:
    """Two published models: a free one, and one of two heads under a licence that restricts its use."""
    with tarfile.open(DATA / "mace" / "models.tar.xz") as archive:
        archive.extract("multihead.model", tmp_path, filter="data")
    files = {"/graded.pth": SEVENNET.read_bytes(), "/multihead.model": (tmp_path / "multihead.model").read_bytes()}
    for path, content in files.items():
        web.files[path] = WebFile(content)
    size, sha256 = len(files["/graded.pth"]), hashlib.sha256(files["/graded.pth"]).hexdigest()
    url = f"{web.url}/graded.pth"
    graded = PublishedModel(GRADED, url, "nequip", "crystals", 4, "PBE", "MPtrj", "MIT", "Me, doi:1/2", size, sha256)
    heads = PublishedModel(
        HEADS,
        f"{web.url}/multihead.model",
        "mace",
        "crystals",
        3,
        "-",
        "-",
        "ASL",
        "Me",
        heads={"surface": "B", "bulk": "C"},
    )
    known = {GRADED: graded, HEADS: heads}
    monkeypatch.setattr(published, "PUBLISHED", known)
    return known


def left(cache: Path) -> list[Path]:
    """Files of models, their checksums, and downloads."""
    files = [path for name in ("models", "downloads") for path in (cache / name).rglob("*") if path.is_file()]
    return [path for path in files if not path.name.endswith(".lock")]


def test_from_the_server_to_an_energy(run: Run, cache: Path) -> None:
    golden = np.load(SEVENNET.with_name("golden.npz"))
    atoms = ase.Atoms(**{key: golden[f"slab/{key}"] for key in ("numbers", "positions", "cell", "pbc")})
    ase.io.write("slab.traj", atoms)
    result = run("energy", "slab.traj", "-m", GRADED)
    assert (result.status, result.err) == (
        1,
        f"error: the model {GRADED} is not on this machine; `atomsml fetch {GRADED}` gets it\n",
    )
    result = run("fetch", GRADED)
    assert result.status == 0
    assert (
        result.out
        == f"{GRADED} is ready: -m {GRADED}, AtomsMLCalculator('{GRADED}'); `atomsml info {GRADED}` describes it\n"
    )
    assert f"kept in {cache}/models/{GRADED}.safetensors; please cite Me, doi:1/2\n" in result.err
    assert list((cache / "downloads").iterdir()) == []
    wanted = golden["slab/graded/energy"].item()
    result = run("energy", "slab.traj", "-m", GRADED, "--precision", "float64", "--json")
    assert json.loads(result.out)[0]["energy"] == pytest.approx(wanted, rel=1e-9)
    assert AtomsMLCalculator(GRADED).parameters["model"] == GRADED
    assert load(GRADED).dtype == torch.float64


def test_nothing_is_downloaded_twice_or_unasked(run: Run, web: Web) -> None:
    run("energy", "CCO", "-m", GRADED)
    run("info", GRADED)
    run("models")
    with pytest.raises(ValueError, match=f"`atomsml fetch {GRADED}` gets it"):
        AtomsMLCalculator(GRADED)
    assert web.requests == []
    assert run("fetch", GRADED).status == 0
    assert len(web.requests) == 1
    result = run("fetch", GRADED)
    assert (result.status, len(web.requests)) == (0, 1)
    assert result.out.startswith(f"{GRADED} is there already: ")


def test_the_file_says_where_it_is_from(run: Run, web: Web) -> None:
    run("fetch", GRADED)
    about = json.loads(run("info", GRADED, "--json").out)
    assert about["source"]["sha256"] == hashlib.sha256(SEVENNET.read_bytes()).hexdigest()
    assert (about["source"]["url"], about["source"]["file"]) == (f"{web.url}/graded.pth", "graded.pth")
    keys = ("name", "kind", "theory", "data", "licence", "citation")
    assert [about[key] for key in keys] == [GRADED, "crystals", "PBE", "MPtrj", "MIT", "Me, doi:1/2"]


def test_models_lists_what_is_here_and_what_can_be_fetched(run: Run, cache: Path) -> None:
    run("fetch", GRADED)
    records = {record["name"]: record for record in json.loads(run("models", "--json").out)}
    assert records["organic-xtb"]["status"] == "embedded"
    here, there = records[GRADED], records[f"{HEADS}-bulk"]
    assert (here["status"], here["theory"], here["licence"], here["architecture"]) == (
        "fetched",
        "PBE",
        "MIT",
        "nequip",
    )
    assert here["num_elements"] == len(here["elements"])
    assert here["size"] == (cache / "models" / f"{GRADED}.safetensors").stat().st_size
    assert (there["status"], there["theory"], there["num_elements"], there["elements"]) == ("to fetch", "C", 3, None)
    assert f"{HEADS}-surface" in records
    lines = {line.split()[0]: line for line in run("models").out.splitlines()}
    assert "fetched" in lines[GRADED]
    assert lines[GRADED].split()[-2:] == ["nequip", "doi:1/2"]
    assert "to fetch" in lines[f"{HEADS}-bulk"]


def test_a_licence_that_restricts_the_use_is_agreed_to_first(
    run: Run, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run("fetch", HEADS, "--head", "bulk")
    assert (result.status, result.out, web.requests) == (1, "", [])
    assert result.err.startswith(f"error: {HEADS} is not free to use: the Academic Software License (ASL) permits ")
    assert result.err.endswith("; --accept-licence agrees to it\n")
    result = run("fetch", HEADS, "--head", "bulk", "--accept-licence")
    assert result.status == 0
    assert json.loads(run("info", f"{HEADS}-bulk", "--json").out)["licence"] == "ASL"


@pytest.mark.parametrize(("answer", "status"), [("y", 0), ("n", 1), ("", 1)])
def test_on_a_terminal_one_is_asked(cache: Path, table: dict[str, PublishedModel], answer: str, status: int) -> None:
    """A terminal is what `script` makes: a pseudo-terminal for a process of its own."""
    code = (
        "import typer\nfrom atomsml.cli.models.fetch import _agree\nfrom atomsml.cli.main import main\n"
        "from atomsml.fetch.published import PUBLISHED\n_agree(PUBLISHED['mace-off23-small'], False)"
    )
    reader, writer = os.openpty()
    process = subprocess.Popen([sys.executable, "-c", code], stdin=writer, stdout=writer, stderr=writer)
    os.close(writer)
    os.write(reader, f"{answer}\n".encode())
    said = b""
    while process.poll() is None or not said.endswith(b"\n"):
        try:
            said += os.read(reader, 1000)
        except OSError:  # the other end is closed
            break
    os.close(reader)
    assert b"Do you agree to it? [y/N]" in said
    assert (process.wait() == 0) == (status == 0)
    assert (b"its licence was not agreed to" in said) == (status == 1)


def test_each_head_is_a_model_of_its_own(run: Run) -> None:
    result = run("fetch", HEADS, "--accept-licence")
    assert result.status == 1
    assert result.err == f"error: {HEADS} has several heads; choose one with --head: surface (B), bulk (C)\n"
    assert "; there are surface, bulk" in run("fetch", HEADS, "--head", "other").err
    for head in ("surface", "bulk"):
        assert run("fetch", HEADS, "--head", head, "--accept-licence").status == 0
    golden = np.load(DATA / "mace" / "golden.npz")
    atoms = ase.Atoms(**{key: golden[f"triclinic/{key}"] for key in ("numbers", "positions", "cell", "pbc")})
    for head in ("surface", "bulk"):
        wanted = golden[f"triclinic/multihead/{head}/energy"].item()
        found = evaluate(load(f"{HEADS}-{head}"), AtomicGraph.from_ase(atoms))
        assert found.energy.item() == pytest.approx(wanted, rel=1e-9)
        assert read_metadata(f"{HEADS}-{head}")["head"] == head
    result = run("energy", "CCO", "-m", HEADS)
    here = f"{HEADS}-surface, {HEADS}-bulk"
    assert f"on this machine (here: {here}); `atomsml fetch {HEADS} --head surface|bulk` gets it" in result.err


def test_from_a_file_that_is_here(run: Run, web: Web) -> None:
    Path("mine.pth").write_bytes(SEVENNET.read_bytes())
    assert run("fetch", GRADED, "--from", "mine.pth").status == 0
    assert web.requests == []
    assert read_metadata(GRADED)["source"]["file"] == "graded.pth"
    assert Path("mine.pth").exists()


def test_from_a_mirror(run: Run, web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    web.files[f"/{web.url.partition('://')[2]}/graded.pth"] = web.files.pop("/graded.pth")
    assert run("fetch", GRADED).status == 1
    monkeypatch.setenv("ATOMSML_MIRROR", web.url)
    assert run("fetch", GRADED).status == 0


@pytest.mark.parametrize(
    ("words", "file", "message"),
    [
        (
            ("sevennet-grade",),
            None,
            "unknown published model 'sevennet-grade'; did you mean 'sevennet-graded'? there are ",
        ),
        ((GRADED,), WebFile(b"", 404), "the server answers 404 Not Found; get the file on another machine"),
        ((GRADED,), WebFile(b"<html>", kind="text/html"), "is a web page, not a model"),
        ((GRADED,), WebFile(bytes(SEVENNET.stat().st_size)), "has the SHA-256 "),
        ((GRADED, "--from", "absent.pth"), None, "absent.pth"),
        ((GRADED, "--mirror", "nowhere"), None, "the mirror 'nowhere' is no URL"),
    ],
)
def test_bad_input_gets_one_line(run: Run, web: Web, cache: Path, words: Any, file: Any, message: str) -> None:
    web.files["/graded.pth"] = file or web.files["/graded.pth"]
    result = run("fetch", *words)
    assert (result.status, result.out) == (1, "")
    error = result.err.splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error
    assert left(cache) == []


def test_a_file_that_no_reader_reads_leaves_no_model(run: Run, table: Any, web: Web, cache: Path) -> None:
    content = b"PK\3\4 but no model"
    web.files["/graded.pth"].content = content
    table[GRADED] = PublishedModel(GRADED, f"{web.url}/graded.pth", "nequip", "crystals", 4, "-", "-", "MIT", "-")
    result = run("fetch", GRADED)
    assert result.status == 1
    assert result.err.splitlines()[-1].startswith("error: ")
    assert left(cache) == []


def test_a_damaged_or_removed_file_is_said_with_the_remedy(run: Run, cache: Path) -> None:
    run("fetch", GRADED)
    path = cache / "models" / f"{GRADED}.safetensors"
    content = path.read_bytes()
    for damaged in (content[:-9], content[:-9] + bytes(9), b""):
        path.write_bytes(damaged)
        for words in (("energy", "CCO", "-m", GRADED), ("info", GRADED)):
            result = run(*words)
            assert result.status == 1
            assert result.err == f"error: the fetched model {path} is damaged; `atomsml fetch {GRADED}` gets it again\n"
        result = run("models")
        assert [line.split()[1] for line in result.out.splitlines() if line.startswith(GRADED)] == ["damaged"]
        assert result.err.startswith(f"warning: the fetched model {path} is damaged; ")
    result = run("fetch", GRADED)
    assert (result.status, path.read_bytes()) == (0, content)
    assert f"note: the fetched model {path} is damaged" in result.err
    path.unlink()
    assert f"`atomsml fetch {GRADED}` gets it\n" in run("info", GRADED).err


def test_a_log_has_a_line_now_and_then(run: Run, web: Web) -> None:
    size = SEVENNET.stat().st_size
    lines = [line for line in run("fetch", GRADED).err.splitlines() if line.startswith("graded.pth  ")]
    assert 1 <= len(lines) <= 11
    assert lines[-1].endswith(f"of {command.megabytes(size)}")


SCRIPT = """
import sys
from atomsml.fetch import published
from atomsml.fetch.published import PublishedModel
name, url = sys.argv[1:3]
published.PUBLISHED = {name: PublishedModel(name, url, "nequip", "crystals", 4, "PBE", "-", "MIT", "-")}
from atomsml.cli.main import main
main(["fetch", name])
"""


def started(web: Web) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", SCRIPT, GRADED, f"{web.url}/graded.pth"]
    return subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a suite in the background ignores it
    )


def test_two_processes_fetch_one_file(web: Web, cache: Path) -> None:
    web.files["/graded.pth"].pause = 0.02
    processes = [started(web), started(web)]
    said = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert sorted(out.split(" is ")[1].split(":")[0] for out, _ in said) == ["ready", "there already"]
    assert sum("another process is fetching sevennet-graded; waiting" in err for _, err in said) == 1
    assert len(web.requests) == 1
    assert load(GRADED).elements


def test_an_interrupted_download_goes_on(web: Web, cache: Path) -> None:
    web.files["/graded.pth"].pause = 0.5  # so that a block is seen before the last has come
    process = started(web)
    part = cache / "downloads" / f"{GRADED}.pth.part"
    deadline = time.monotonic() + 30
    while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130
    assert err.splitlines()[-1] == f"interrupted: {part} holds what came, and the same command goes on from there"
    kept = part.stat().st_size
    assert 0 < kept < SEVENNET.stat().st_size
    web.files["/graded.pth"].pause = 0.0
    process = started(web)
    process.communicate()
    assert process.returncode == 0
    assert web.requests[-1][1]["Range"] == f"bytes={kept}-"
    assert not part.exists()


@pytest.mark.slow
def test_sevennet_0_out_of_the_real_wheel(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an index of packages can be reached: the file that its authors published relaxes a crystal."""
    monkeypatch.setattr(published, "PUBLISHED", PUBLISHED)
    result = run("fetch", "sevennet-0")
    if "pip cannot download" in result.err:
        pytest.skip(f"no index with sevenn: {result.err}")
    assert result.status == 0
    ase.io.write("NaCl.cif", bulk("NaCl", "rocksalt", a=5.9))
    assert run("relax", "NaCl.cif", "--cell", "-m", "sevennet-0", "-o", "relaxed.extxyz").status == 0
    assert ase.io.read("relaxed.extxyz").cell.cellpar()[0] * 2**0.5 == pytest.approx(5.69, abs=0.05)  # PBE
