"""Shards merged: what one run gives, in its order; sets that are not one run are refused."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase.build import bulk, molecule

from atomsml.cli.main import main
from atomsml.cli.simulate.merged import _by_structure
from atomsml.io.trajectory import Trajectory

Run = Callable[..., Any]


def command(*words: object) -> int:
    """Its exit status."""
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    return int(stop.value.code or 0)


@pytest.fixture(scope="module")
def relaxed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two shards of a relaxation, and one run of all; the model does not know the third's element."""
    folder = tmp_path_factory.mktemp("relaxed")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        frames = [molecule(name) for name in ("H2O", "CH4", "SiH4", "NH3")]
        for i, atoms in enumerate(frames):
            atoms.rattle(0.05, seed=i)
        ase.io.write("given.extxyz", frames)
        words = ("relax", "given.extxyz", "-m", "organic-xtb", "--precision", "float64", "--steps", 4, "--fmax", 0.01)
        for shard, status in (("0/2", 1), ("1/2", 1)):
            assert command(*words, "-o", "found.extxyz", "--shard", shard) == status
        assert command(*words, "-o", "one.extxyz") == 1
    return folder


@pytest.fixture
def parts(relaxed: Path, run: Run, tmp_path: Path) -> Path:
    """A copy of the folder, where the command line runs."""
    shutil.copytree(relaxed, tmp_path, dirs_exist_ok=True)
    return tmp_path


def rows_of(path: str) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_merged_shards_are_one_run(run: Run, parts: Path) -> None:
    result = run("merge", "found-1-of-2.extxyz", "found-0-of-2.summary.json")
    assert result.status == 1
    assert result.out == "3 structures of 2 shards are in found.extxyz, found.csv, found.summary.json\n"
    assert "failed: given.extxyz, frame 2: the model does not know Si" in result.err
    ours, theirs = (ase.io.read(name, ":") for name in ("found.extxyz", "one.extxyz"))
    assert [str(atoms.symbols) for atoms in ours] == ["OH2", "CH4", "NH3"]
    for here, there in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(here.positions, there.positions, atol=1e-7)
        np.testing.assert_allclose(here.get_forces(), there.get_forces(), atol=1e-6)
    for here, there in zip(rows_of("found.csv"), rows_of("one.csv"), strict=True):
        assert here.keys() == there.keys()
        assert (here["index"], here["formula"], here["output"]) == (there["index"], there["formula"], "found.extxyz")
        assert float(here["energy_eV"]) == pytest.approx(float(there["energy_eV"]), abs=1e-9)
    summaries = [json.loads(Path(f"{name}.summary.json").read_text()) for name in ("found", "one")]
    for key in ("command", "inputs", "model", "structures"):
        assert summaries[0][key] == summaries[1][key]
    where = [sorted(each["index"] for each in summary["failed"]) for summary in summaries]
    assert where[0] == where[1]
    assert [each["summary"] for each in summaries[0]["shards"]] == [f"found-{i}-of-2.summary.json" for i in (0, 1)]
    assert run("merge", ".").err.startswith("error: found.extxyz is there already; move it away")


def changed(path: str, **entries: Any) -> str:
    """A copy of the summary of the second shard in a folder of its own, in which something is different."""
    summary = json.loads(Path("found-1-of-2.summary.json").read_text())
    for key, value in entries.items():
        summary[key] = {**summary[key], **value} if isinstance(value, dict) else value
    Path(path).mkdir()
    Path(path, "found-1-of-2.summary.json").write_text(json.dumps(summary))
    return path


def test_what_is_not_one_run_is_refused(run: Run, parts: Path) -> None:
    first, second = (f"found-{i}-of-2.extxyz" for i in (0, 1))
    options = json.loads(Path("found-1-of-2.summary.json").read_text())["run"]["options"]
    Path("empty").mkdir()
    for given, why in (
        ((first,), "shards are missing: 1/2; run them, then merge"),
        (
            (first, second, changed("same")),
            "shard 1/2 is there twice (found-1-of-2.summary.json, same/found-1-of-2.summ",
        ),
        ((first, changed("three", shard={"count": 3})), "is of 3 shards, found-0-of-2.summary.json of 2"),
        ((first, changed("hot", run={"options": {**options, "fmax": 0.5}})), "with --fmax 0.5, not with --fmax 0.01"),
        ((first, changed("inputs", run={"inputs": "0"})), "is of a run with other inputs"),
        ((first, changed("weights", run={"model": "0"})), "is of a run with another model"),
        ((first, changed("energy", command="energy")), "is of energy, found-0-of-2.summary.json of relax"),
        ((first, changed("torn", interrupted=True)), "shard 1/2 was interrupted (torn/"),
        ((first, changed("numbers", shard={"done": [1, 1]})), "the shards do not hold each input once"),
        ((first, "one.extxyz"), "one.summary.json is not of a shard: its run had no --shard"),
        ((first, "lost.extxyz"), "lost.extxyz is not there"),
        ((first, "given.extxyz"), "given.extxyz has no summary given.summary.json beside it"),
        (("empty",), "empty/ holds no summary of a shard"),
        ((first, second, "-o", "found.html"), "cannot write 3 structures to found.html: html holds one"),
    ):
        result = run("merge", *given)
        assert result.status == 1
        assert result.err.startswith("error: ")
        assert why in result.err
    ase.io.write(second, ase.io.read(second, ":") * 2)
    assert "holds 4 structures, its summary found-1-of-2.summary.json says 2; run" in run("merge", first, second).err
    assert not list(Path().glob("found.*"))


def test_a_structure_that_is_given_twice_is_there_twice(run: Run) -> None:
    for shard in ("0/2", "1/2"):
        words = ("O", "O", "O", "O", "C", "-m", "organic-xtb", "--steps", 9, "--fmax", 0.1)
        assert command("relax", *words, "-o", "found.extxyz", "--shard", shard) == 0
    assert run("merge", "found-0-of-2.extxyz", "found-1-of-2.extxyz").status == 0
    assert [row["file"] for row in rows_of("found.csv")] == ["O", "O", "O", "O", "C"]
    assert [str(atoms.symbols) for atoms in ase.io.read("found.extxyz", ":")] == ["OH2"] * 4 + ["CH4"]


def test_rows_of_a_structure_stay_together() -> None:
    lines = [["x.cif", "0", "W", "1"], ["x.cif", "0", "W", "2"], ["y.cif", "0", "Ta", "3"]]
    x, y = ({"file": f"{name}.cif", "index": 0, "formula": formula} for name, formula in (("x", "W"), ("y", "Ta")))
    assert _by_structure(lines, [x, y]) == [lines[:2], lines[2:]]
    assert _by_structure(lines, [x, y, x]) == [lines[:1], lines[2:], lines[1:2]]
    for records in ([x], [x, y, x, x], [y, y, x]):
        with pytest.raises(ValueError, match=r"does not go with the \.json beside it"):
            _by_structure(lines, records)


def test_energies_have_shards(run: Run) -> None:
    ase.io.write("given.extxyz", [bulk("W"), bulk("Ta"), bulk("Mo")])
    for shard in ("0/2", "1/2"):
        assert command("energy", "given.extxyz", "-m", "refractory-pbe", "-o", "found.extxyz", "--shard", shard) == 0
    assert run("merge", "found-0-of-2.extxyz", "found-1-of-2.extxyz", "-o", "found.traj").status == 0
    assert [str(atoms.symbols) for atoms in ase.io.read("found.traj", ":")] == ["W", "Ta", "Mo"]


@pytest.mark.slow
def test_tables_of_properties_are_merged(run: Run) -> None:
    ase.io.write("given.extxyz", [bulk("W"), bulk("Ta"), bulk("Mo")])
    words = ("given.extxyz", "-m", "refractory-pbe", "--no-pictures", "--volumes", "7", "-o", "out")
    for shard in ("0/2", "1/2"):
        assert command("eos", *words, "--shard", shard) == 0
    assert run("merge", "out").out.endswith("are in out/eos.csv, out/eos.json, out/eos.summary.json\n")
    records = [json.loads(Path(f"out/eos{mark}.json").read_text()) for mark in ("", "-0-of-2", "-1-of-2")]
    assert records[0] == [records[1][0], records[2][0], records[1][1]]
    rows = [rows_of(f"out/eos{mark}.csv") for mark in ("", "-0-of-2", "-1-of-2")]
    assert rows[0] == [rows[1][0], rows[2][0], rows[1][1]]


@pytest.mark.slow
def test_shards_of_md_have_noise_of_their_own(run: Run) -> None:
    """Copies of one structure must not run alike because they are in two shards."""
    ase.io.write("given.extxyz", [molecule("H2O")] * 4)
    starts = []
    for i in (0, 1):
        words = ("--steps", 2, "--interval", 2, "--seed", 5, "-o", "run.h5", "--shard", f"{i}/2")
        assert command("md", "given.extxyz", "-m", "organic-xtb", *words) == 0
        with Trajectory(Path(f"run-{i}-of-2.h5")) as trajectory:
            starts += [system.read("velocities", slice(0, 1))[0] for system in trajectory.systems]
    assert len({start.tobytes() for start in starts}) == 4
    assert run("merge", "run-0-of-2.h5", "run-1-of-2.h5").status == 0
    summary = json.loads(Path("run.summary.json").read_text())
    assert summary["outputs"] == [f"run-{i}-of-2.{ending}" for i in (0, 1) for ending in ("h5", "csv", "png")]
    refused = run("md", "O", "-m", "organic-xtb", "--replicas", "300,400", "-o", "ladder.h5", "--shard", "0/2")
    assert refused.err.startswith("error: replicas move together, in one run; leave --shard out")
