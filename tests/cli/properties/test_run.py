"""What all commands of properties do: tables, pictures, shards, --resume, refusals; with eos, which is quick."""

from __future__ import annotations

import csv
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import pytest
from ase.build import bulk, molecule
from PIL import Image

from tests.cli.test_kills import begin, ended

Run = Callable[..., Any]

METALS = "Nb", "Mo", "Ta", "W"


@pytest.fixture
def crystals(run: Run) -> str:
    """Those that refractory-pbe knows; the tests run in a folder of their own."""
    ase.io.write("crystals.extxyz", [bulk(metal) for metal in METALS])
    return "crystals.extxyz"


OPTIONS = ("-m", "refractory-pbe", "--volumes", 5)


def test_table_json_pictures_and_structures(run: Run, crystals: str) -> None:
    result = run("eos", crystals, *OPTIONS, "--json")
    assert result.status == 0
    printed = json.loads(result.out)
    assert printed == json.loads(Path("eos/eos.json").read_text())
    with open("eos/eos.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["bulk modulus GPa"]) for row in rows] == [each["bulk_modulus"] for each in printed]
    assert [each["index"] for each in printed] == list(range(4))
    for i, each in enumerate(printed):
        relaxed = ase.io.read(f"eos/crystals-{i}-relaxed.extxyz")
        assert relaxed.get_volume() == pytest.approx(each["volume"], rel=0.01)
        with Image.open(f"eos/crystals-{i}.png") as picture:
            assert picture.width > 500
    summary = json.loads(Path("eos/eos.summary.json").read_text())
    assert len(summary["outputs"]) == 2 + 2 * 4
    assert summary["failed"] == []
    assert not Path("eos/eos.journal.jsonl").exists()


def test_what_has_no_such_property_is_named_and_the_others_are_done(run: Run, crystals: str) -> None:
    ase.io.write("water.xyz", molecule("H2O"))
    result = run("eos", "water.xyz", crystals, "--volumes", 5, "-m", "universal-small", "--no-pictures")
    assert result.status == 1
    assert "refused: water.xyz, frame 0: an equation of state is of a crystal" in result.err
    header, *rows = result.out.splitlines()
    assert "bulk modulus GPa" in header
    assert len(rows) == len(json.loads(Path("eos/eos.json").read_text())) == 4
    assert not list(Path("eos").glob("*.png"))
    Path("nothing.xyz").touch()
    none = run("eos", "water.xyz", "water.xyz", "nothing.xyz", "-o", "none")
    assert none.status == 1
    assert none.err.startswith("error: water.xyz, frame 0: an equation of state is of a crystal")
    assert none.err.endswith("; also nothing.xyz: holds no structure; check that it is complete; also 1 other\n")


def test_strict_stops_at_the_first(run: Run, crystals: str) -> None:
    result = run("eos", crystals, *OPTIONS, "--no-relax", "--strict")
    assert result.status == 1
    assert result.err.count("\n") == 1
    assert "is not at rest in its cell" in result.err
    assert not Path("eos/eos.csv").exists()


def test_shards_are_disjoint_and_complete(run: Run, crystals: str) -> None:
    whole = json.loads(run("eos", crystals, *OPTIONS, "--no-pictures", "--json", "-o", "whole").out)
    parts = []
    for i in range(2):
        words = ("-o", "parts", "--shard", f"{i}/2", "--no-pictures", "--json")
        parts += json.loads(run("eos", crystals, *OPTIONS, *words).out)
        assert Path(f"parts/eos-{i}-of-2.csv").exists()
    parts.sort(key=lambda each: each["index"])
    assert [each["index"] for each in parts] == [each["index"] for each in whole]
    for mine, other in zip(parts, whole, strict=True):
        assert mine["bulk_modulus"] == pytest.approx(other["bulk_modulus"], rel=1e-4)
    written = {path.name for path in Path("parts").glob("*.extxyz")}
    assert written == {path.name for path in Path("whole").glob("*.extxyz")}


def test_files_of_others_are_not_replaced_and_those_of_an_earlier_run_are(run: Run, crystals: str) -> None:
    Path("eos").mkdir()
    ase.io.write("two.extxyz", ase.io.read(crystals, ":2"))
    Path("eos/two-1.png").write_text("mine")
    result = run("eos", "two.extxyz", *OPTIONS)
    assert result.status == 1
    assert "eos/two-1.png is there already" in result.err
    assert Path("eos/two-1.png").read_text() == "mine"
    Path("eos/two-1.png").unlink()
    assert run("eos", "two.extxyz", *OPTIONS, "--resume").status == 0
    assert run("eos", "two.extxyz", *OPTIONS).status == 0


def test_a_killed_run_goes_on(run: Run, crystals: str) -> None:
    ase.io.write("many.extxyz", ase.io.read(crystals, ":") * 4)
    journal = Path("out/eos.journal.jsonl")
    words = ["eos", "many.extxyz", *map(str, OPTIONS), "-o", "out"]
    child = begin(words, Path())
    deadline = time.monotonic() + 60
    while not (journal.exists() and journal.read_bytes().count(b"\n") > 3) and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    ended(child, Path())
    done = journal.read_bytes().count(b"\n") - 1
    assert 0 < done < 16
    assert not Path("out/eos.csv").exists()
    refused = run("eos", "many.extxyz", *OPTIONS, "-o", "out", "--resume", "--range", 0.05)
    assert refused.status == 1
    assert "is of a run with --range 0.1, not with --range 0.05" in refused.err
    assert run("eos", "many.extxyz", *OPTIONS, "-o", "out", "--resume").status == 0
    assert [each["index"] for each in json.loads(Path("out/eos.json").read_text())] == list(range(16))
    assert not journal.exists()
