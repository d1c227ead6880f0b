"""Relaxed structures in a folder, and inputs that several processes share."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase.build import bulk, molecule

from atomsml.cli.simulate.names import names_by_source
from atomsml.io import Refused, StructureRecord
from tests.cli.test_kills import begin, ended

Run = Callable[..., Any]


def test_a_folder_has_a_file_for_each_named_by_its_source(run: Run, model: str) -> None:
    Path("many").mkdir()
    ase.io.write("many/copper.cif", bulk("Cu"))
    ase.io.write("many/two.extxyz", [molecule("H2O"), molecule("CH3OH")])
    Path("many/torn.xyz").write_text("3\n\nO 0 0 0\n")
    result = run("relax", "many", "O=C=O", "-m", model, "--steps", 2, "--fmax", 1e-6, "-o", "out/", "--json")
    assert result.status == 1
    records = json.loads(result.out)
    assert [r.get("output") for r in records] == [
        "out/copper.extxyz",
        None,
        "out/two-0.extxyz",
        "out/two-1.extxyz",
        "out/O_C_O.extxyz",
    ]
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "O_C_O.extxyz",
        "copper.extxyz",
        "relax.csv",
        "relax.summary.json",
        "two-0.extxyz",
        "two-1.extxyz",
    ]
    for record in records:
        if "output" in record:
            atoms = ase.io.read(record["output"])
            assert atoms.get_chemical_formula() == record["formula"]
            assert atoms.get_potential_energy() == pytest.approx(record["energy"], abs=1e-6)
    with open("out/relax.csv", newline="") as file:
        assert [row["file"] for row in csv.DictReader(file)] == [r["file"] for r in records if "output" in r]
    again = run("relax", "many", "-m", model, "-o", "out")
    assert again.err.startswith("error: out/relax.csv is there already; --resume goes on with an interrupted run")


def record(file: str, index: int = 0) -> StructureRecord:
    return StructureRecord(file, index, molecule("H2O"))


def test_no_two_names_are_the_same(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a/POSCAR", "b/POSCAR", "c/x.cif.gz", "c/X.cif", "d/other-1.xyz")]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        file.touch()
    poscar, second, packed, capital, other = map(str, files)
    inputs = [
        record(poscar),
        record(second),
        record(packed),
        record(capital),
        record(other),
        record("OTHER", 0),
        Refused("OTHER", 1, "for a reason"),
        record("C/C=C/C"),
        record("C\\C=C\\C"),
        record("C" * 400),
    ]
    names = names_by_source(inputs, ".extxyz")
    assert names[:9] == [
        "a-POSCAR.extxyz",
        "b-POSCAR.extxyz",
        "c-x.extxyz",
        "c-X-2.extxyz",
        "other-1.extxyz",
        "OTHER-0.extxyz",
        "OTHER-1-2.extxyz",
        "C_C_C_C.extxyz",
        "C_C_C_C-2.extxyz",
    ]
    assert len(names[9]) <= 255


@pytest.mark.parametrize("output", ["out/", "all.extxyz"])
def test_shards_are_disjoint_and_complete(run: Run, output: str) -> None:
    """Together they relax what one run does, to the same; a structure that is refused is so in one of them."""
    frames = []
    for i in range(7):
        atoms = molecule("H2")
        atoms.positions[1, 2] += 0.05 * i
        frames.append(atoms)
    frames[3].positions[0] = np.nan
    ase.io.write("seven.traj", frames)
    whole = json.loads(run("relax", "seven.traj", "-m", "organic-xtb", "-o", "whole.extxyz", "--json").out)
    found: dict[int, dict[str, Any]] = {}
    places = []
    for i in range(3):
        result = run("relax", "seven.traj", "-m", "organic-xtb", "-o", output, "--shard", f"{i}/3", "--json")
        records = json.loads(result.out)
        assert [r["index"] for r in records] == list(range(i, 7, 3))
        assert not found.keys() & {r["index"] for r in records}
        found |= {r["index"]: r for r in records}
        places += sorted({r["output"] for r in records if "output" in r})
    alike = ("file", "index", "energy", "steps", "refused")
    kept = [{key: r.get(key) for key in alike} for r in whole]
    assert [{key: found[i].get(key) for key in alike} for i in range(7)] == kept
    if output == "out/":
        assert sorted(places) == [f"out/seven-{i}.extxyz" for i in (0, 1, 2, 4, 5, 6)]
    else:
        assert places == [f"all-{i}-of-3.extxyz" for i in range(3)]
        assert sum(len(ase.io.read(place, ":")) for place in places) == 6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--shard", "2/2"), "--shard must be I/N with I from 0 to N-1, as 0/4 to 3/4, got '2/2'"),
        (("--shard", "one"), "got 'one'"),
        (("--shard", "3/4"), "nothing is left for shard 3/4 of 2 inputs"),
        (("-o", "nothing"), "use .extxyz, .traj, .cif, ...; or nothing/ for a folder"),
        (("--resume", "--trajectory", "steps.traj"), "--trajectory cannot go on"),
        (("--symmetry",), "O, frame 0: keeping the space group needs a crystal that is periodic"),
        (("--pressure", "1"), "pressure, shape and fixed_axes are about a relaxed cell; set cell as well"),
        (("--cell", "--shape", "flat"), "unknown --shape 'flat'; there are free, isotropic, volume"),
        (("--fix", "Hydrogen"), "cannot tell which atoms 'Hydrogen' means"),
        (("--fix", "Pt"), "O, frame 0: --fix: no atom is meant by 'Pt'"),
    ],
)
def test_what_cannot_be_done_is_refused(run: Run, model: str, words: tuple[str, ...], message: str) -> None:
    result = run("relax", "O", "C", "-m", model, *words)
    assert (result.status, result.out) == (1, "")
    assert result.err.count("\n") == 1
    assert message in result.err
    assert list(Path().iterdir()) == []


def test_fixed_atoms_stay_and_are_fixed_in_the_output(run: Run, model: str) -> None:
    atoms = molecule("CH3OH")
    atoms.rattle(0.1, seed=1)
    ase.io.write("shaken.xyz", atoms)
    result = run("relax", "shaken.xyz", "-m", model, "--fix", "O,4-5", "--fmax", 0.02, "--json")
    assert result.status == 0
    relaxed = ase.io.read("relaxed.extxyz")
    moved = np.linalg.norm(relaxed.positions - ase.io.read("shaken.xyz").positions, axis=1)
    assert (moved < 1e-7).tolist() == [False, True, False, False, True, True]
    assert relaxed.constraints[0].index.tolist() == [1, 4, 5]
    record = json.loads(result.out)[0]
    assert record["fixed_atoms"] == 3
    assert np.linalg.norm(relaxed.get_forces(), axis=1).max() < 0.02
    assert np.linalg.norm(np.array(record["forces"])[[1, 4, 5]], axis=1).max() > 0.02


def test_structures_without_the_fixed_atoms_are_refused(run: Run, model: str) -> None:
    result = run("relax", "O", "CO", "-m", model, "--fix", "C", "--steps", 1, "--json")
    assert result.status == 1
    refused, treated = json.loads(result.out)
    assert refused["refused"] == "--fix: no atom is meant by 'C'"
    assert treated["formula"] == "CH4O"
    strict = run("relax", "O", "CO", "-m", model, "--fix", "C", "--strict", "-o", "strict.extxyz")
    assert strict.err.startswith("error: O, frame 0: --fix: no atom is meant")


def test_shards_run_side_by_side_in_a_folder(run: Run) -> None:
    """Two processes at the same time; `benchmarks.engine.shards` does it with 5,000 structures, and kills them."""
    frames = []
    for i in range(40):
        atoms = molecule("CH3OH" if i % 2 else "H2O")
        atoms.rattle(0.05, seed=i)
        frames.append(atoms)
    ase.io.write("many.extxyz", frames)
    words = ["relax", "many.extxyz", "-m", "organic-xtb", "-o", "out/", "--shard"]
    children = [begin([*words, shard], Path()) for shard in ("0/2", "1/2")]
    assert [ended(child, Path())[0] for child in children] == [0, 0]
    rows: list[dict[str, str]] = []
    for table in Path("out").glob("relax-*-of-2.csv"):
        with table.open(newline="") as file:
            rows += csv.DictReader(file)
    assert sorted(int(row["index"]) for row in rows) == list(range(40))
    assert {row["output"] for row in rows} == {f"out/many-{i}.extxyz" for i in range(40)}
    for row in rows:
        assert ase.io.read(row["output"]).get_potential_energy() == pytest.approx(float(row["energy_eV"]), abs=1e-6)
    assert sorted(path.name for path in Path("out").iterdir() if path.suffix != ".extxyz") == [
        f"relax-{i}-of-2.{ending}" for i in (0, 1) for ending in ("csv", "summary.json")
    ]
