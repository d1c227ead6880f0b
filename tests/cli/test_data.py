"""`atomsml data`: what people see, and what is written."""

from __future__ import annotations

import json
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
from ase.build import molecule

from atomsml.dataset import read_dataset
from atomsml.generative.proteins.set import read_backbones


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    """two.xyz and one.xyz: rattled water and methane, a group for each ten frames."""
    rng = np.random.default_rng(0)
    frames = []
    for i in range(60):
        atoms = molecule("H2O" if i % 2 else "CH4")
        atoms.rattle(0.05, rng=rng)
        forces = rng.normal(size=(len(atoms), 3))
        atoms.info = {"REF_energy": -5.0 * len(atoms) + rng.normal(), "traj": i // 10, "kind": "rattled"}
        atoms.arrays["REF_forces"] = forces - forces.mean(axis=0)
        frames.append(atoms)
    ase.io.write(tmp_path / "one.extxyz", frames[:40])
    ase.io.write(tmp_path / "two.extxyz", frames[35:])
    return tmp_path


def test_info_prints_keys_elements_ranges_and_shared_geometries(run, sets) -> None:
    result = run("data", "info", "one.extxyz", "two.extxyz", "--config-type-key", "kind")
    assert result.status == 0
    assert "  energy = REF_energy, on 40 of 40" in result.out
    assert "labelled structures: energy 40, forces 40, stress 0" in result.out
    assert "other keys: traj (40)" in result.out
    words = [line.split() for line in result.out.splitlines()]
    assert ["C", "20", "20"] in words
    assert ["rattled", "40"] in words
    assert ["atoms", "per", "structure", "3", "4", "5"] in words
    assert "nothing suspicious in 40 structures" in result.out
    assert result.out.splitlines()[-1] == "5 structures of two.extxyz have geometries that are in one.extxyz too"


def test_info_as_json(run, sets) -> None:
    frames = ase.io.read("one.extxyz", ":")
    frames.append(frames[3])
    ase.io.write("three.extxyz", frames)
    result = run("data", "info", "three.extxyz", "--group-key", "traj", "--json")
    (report,) = json.loads(result.out)["files"]
    assert report["labels"] == {"energy": 41, "forces": 41, "stress": 0}
    assert report["keys"]["group"] == "traj"
    assert report["groups"] == 4
    assert report["elements"]["O"] == {"structures": 21, "atoms": 21}
    assert report["ranges"]["atoms per structure"] == [3.0, 3.0, 5.0]
    assert [(s["kind"], s["rows"]) for s in report["suspicious"]] == [("duplicates", [40])]


def test_suspicious_rows_are_shown_and_do_not_fail(run, sets) -> None:
    frames = ase.io.read("one.extxyz", ":")
    for atoms in frames:
        atoms.arrays["REF_forces"][0] += 1.0
    ase.io.write("net.extxyz", frames)
    result = run("data", "info", "net.extxyz")
    assert result.status == 0
    assert "net force: 40 of 40 structures: forces that do not sum to zero" in result.out
    assert ", ...\n" in result.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("info", "none.xyz"), "no file none.xyz"),
        (("info", "one.extxyz", "--energy-key", "E"), "no structure has the energy key 'E'"),
        (("build", "one.extxyz", "-o", "set.xyz"), "must have the suffix .h5"),
        (("build", "one.extxyz", "-o", "set.h5", "--split", "train=0.9"), "add up to 1"),
        (("build", "one.extxyz", "-o", "set.h5", "--split", "train:0.9"), "must read like"),
        (("build", "one.extxyz", "-o", "set.h5", "--split", "a=0.5 a=0.5"), "different names"),
        (("build", "one.extxyz", "-o", "set.h5", "--split", "../a=0.5 b=0.5"), "different names"),
        (("build", "one.extxyz", "-o", "set.h5", "--split", "a=.5 b=.5", "--split-by", "group"), "have no group"),
        (("build", "one.extxyz", "broken.xyz", "-o", "set.h5"), "broken.xyz"),
    ],
)
def test_errors_are_one_line_and_leave_nothing(run, sets, words, message) -> None:
    Path("broken.xyz").write_text("2\nREF_energy=1\nH 0 0 0\n")
    before = sorted(Path.cwd().iterdir())
    result = run("data", *words)
    assert result.status == 1
    assert result.err.startswith("error: ")
    assert message in result.err
    assert result.err.count("\n") == 1
    assert sorted(Path.cwd().iterdir()) == before


def test_build_packs_all_files(run, sets) -> None:
    result = run("data", "build", "one.extxyz", "two.extxyz", "-o", "set.h5", "--group-key", "traj")
    assert result.status == 0
    assert "  forces = REF_forces, on 40 of 40" in result.out
    assert "wrote set.h5: 65 structures" in result.out
    packed, one = read_dataset("set.h5"), read_dataset("one.extxyz")
    assert packed.label_counts() == {"energy": 65, "forces": 65, "stress": 0}
    np.testing.assert_array_equal(packed[39].positions, one[39].positions)
    assert set(packed.groups) == set("012345")
    again = run("data", "build", "set.h5", "-o", "set.h5")
    assert again.status == 1
    assert "is an input as well" in again.err


def test_build_splits_by_group(run, sets) -> None:
    words = ("data", "build", "one.extxyz", "two.extxyz", "-o", "set.h5", "--group-key", "traj", "--split-by", "group")
    result = run(*words, "--split", "train=0.5,test=0.5")
    assert result.status == 0
    assert sorted(path.name for path in Path.cwd().glob("*.h5")) == ["set.test.h5", "set.train.h5"]
    train, test = read_dataset("set.train.h5"), read_dataset("set.test.h5")
    assert len(train) + len(test) == 65
    assert set(train.groups).isdisjoint(test.groups)
    assert [path for path in Path.cwd().iterdir() if path.name.startswith(".")] == []


def test_build_from_packed_parts_gives_the_whole_again(run, sets) -> None:
    run("data", "build", "one.extxyz", "-o", "set.h5", "--split", "a=0.5 b=0.5")
    result = run("data", "build", "set.a.h5", "set.b.h5", "-o", "whole.h5")
    assert result.status == 0
    assert sorted(read_dataset("whole.h5").content) == sorted(read_dataset("one.extxyz").content)


def test_what_looks_wrong_is_said_while_packing(run, tmp_path: Path) -> None:
    frames = [molecule("H2O") for _ in range(4)]
    for i, atoms in enumerate(frames):
        atoms.positions[0, 0] += 0.01 * i
        atoms.info["REF_energy"] = -470.0 - i
        atoms.arrays["REF_forces"] = np.full((3, 3), 0.5 * (i == 2))  # zero, but for one whose sum is not
    ase.io.write(tmp_path / "set.extxyz", frames)
    done = run("data", "build", "set.extxyz", "-o", "set.h5")
    assert done.status == 0, done.err
    assert "warning: set.h5: net force: 1 of 4 structures" in done.err
    assert "(rows 2)" in done.err
    assert "warning: set.h5: zero forces: 3 of 4 structures" in done.err
    assert run("data", "build", "set.extxyz", "-o", "part.h5", "--split", "a=0.5 b=0.5").err.count("net force") == 1


def test_structures_that_cannot_be_used_are_listed_and_the_others_taken(run, sets: Path) -> None:
    text = Path("one.extxyz").read_text()
    Path("one.extxyz").write_text("1\nREF_energy\nH 0 0 0\n" + text)
    for words in (("info", "one.extxyz"), ("build", "one.extxyz", "-o", "set.h5")):
        done = run("data", *words)
        assert done.status == 1
        assert "refused: one.extxyz, frame 0: REF_energy: must hold numbers, got a word without a value" in done.err
        assert "1 of 41 inputs were refused" in done.err
        strict = run("data", *words, "--strict")
        assert strict.status == 1
        assert "error: one.extxyz, frame 0: REF_energy" in strict.err
    assert len(read_dataset("set.h5")) == 40


def test_backbones_are_packed_as_they_are_read(run, tmp_path) -> None:
    proteins = Path(__file__).parents[1] / "data" / "proteins"
    files = [str(proteins / name) for name in ("1aap.pdb.gz", "1brf.pdb.gz", "nasty.pdb")]
    result = run("data", "backbones", *files, "-o", "chains.h5")
    assert (result.status, result.out) == (0, "wrote chains.h5: 6 chains of 125 residues, of 3 files\n")
    read, packed = read_backbones(files), read_backbones([tmp_path / "chains.h5"])
    np.testing.assert_array_equal(packed.hashes(), read.hashes())
    np.testing.assert_array_equal(packed.groups(), read.groups())
    assert packed.warnings == read.warnings
    for chain, other in zip(read.chains, packed.chains, strict=True):
        assert (chain.sequence, chain.labels, chain.name, chain.where) == (
            *(other.sequence, other.labels, other.name, other.where),
        )


def test_bad_files_of_backbones_are_named(run, tmp_path) -> None:
    proteins = Path(__file__).parents[1] / "data" / "proteins"
    (tmp_path / "bad.pdb").write_text("")
    result = run("data", "backbones", str(proteins / "1aap.pdb.gz"), "bad.pdb", "-o", "chains.h5")
    assert result.status == 1
    assert "refused: bad.pdb: holds no backbone of a protein" in result.err
    assert (tmp_path / "chains.h5").exists()
    result = run("data", "backbones", "bad.pdb", "-o", "none.h5")
    assert result.status == 1
    assert result.err.startswith("error: bad.pdb: holds no backbone")
    assert not (tmp_path / "none.h5").exists()
