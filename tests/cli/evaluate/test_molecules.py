"""`atomsml evaluate molecules`: table, JSON, CSV, relaxation; and `atomsml evaluate MODEL DATA` goes on working."""

import csv
import json
from pathlib import Path

import ase.io
import pytest
from ase.build import molecule


@pytest.fixture
def generated(tmp_path: Path) -> Path:
    """Methane, water, and methane that lost a hydrogen."""
    broken = molecule("CH4")
    broken.positions[4] *= 2
    path = tmp_path / "generated.xyz"
    ase.io.write(path, [molecule("CH4"), molecule("H2O"), broken])
    return path


def test_table(run, generated: Path) -> None:
    result = run("evaluate", "molecules", generated)
    assert result.status == 0
    lines = result.out.splitlines()
    assert lines[0] == "3 molecules"
    assert lines[1].split() == ["suite", "metric", "value", "from", "to", "unit", "of", "molecules"]
    rows = {" ".join(line.split()[1:-5]): line.split()[-5:] for line in lines[2:]}
    assert rows["atom stability"][0] == "84.62"  # 11 of 13
    assert rows["molecule stability"] == ["66.67", "20.77", "93.85", "%", "3"]  # Wilson's interval of 2 of 3
    assert rows["valid"][0] == rows["valid connected"][0] == "66.67"
    assert rows["unique"][0] == "100.00"


def test_json_and_csv(run, generated: Path) -> None:
    (generated.parent / "train.smi").write_text("O\n")
    result = run("evaluate", "molecules", generated, "--reference", "train.smi", "--csv", "rows.csv", "--json")
    assert result.status == 0
    said = json.loads(result.out)
    assert said["molecules"] == 3
    assert said["reference"]["name"] == "train.smi"
    assert len(said["reference"]["sha256"]) == 64
    assert set(said["suites"]) == {"edm", "strict"}
    assert said["suites"]["strict"]["metrics"]["novel"]["value"] == 0.5
    with Path("rows.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["smiles"] for row in rows[:2]] == ["C", "O"]
    assert [row["index"] for row in rows] == ["0", "1", "2"]
    assert rows[0]["edm"] == rows[0]["strict"] == ""
    assert rows[2]["edm"] == "atom 0: C with valence 3, and 1 more unstable atoms"
    assert rows[2]["strict"]


def test_reference_and_relaxation(run, generated: Path) -> None:
    ase.io.write("reference.xyz", [molecule("CH4")] * 30)
    result = run(
        *("evaluate", "molecules", generated, "--reference", "reference.xyz"),
        *("--relax", "organic-xtb", "--device", "cpu", "--json", "--csv", "rows.csv"),
    )
    assert result.status == 0
    suite = json.loads(result.out)["suites"]["geometry"]
    assert suite["types"]["bond_length C-H"]["value"] == pytest.approx(0, abs=1e-6)
    assert suite["metrics"]["converged"] == {**suite["metrics"]["converged"], "value": 1.0, "of": 2}
    assert 0 < suite["metrics"]["strain_median"]["value"] < 1  # kcal/mol, between two methods
    with Path("rows.csv").open() as file:
        strains = [row["strain_kcal_mol"] for row in csv.DictReader(file)]
    assert float(strains[0]) > 0
    assert strains[2] == ""  # an invalid molecule is not relaxed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["missing.sdf"], "no file missing.sdf"),
        (["generated.xyz", "--suites", "edm,stric"], "unknown suite 'stric'; choose among edm, strict, geometry"),
        (["generated.xyz", "--suites", "geometry"], "the suite geometry needs molecules to compare with"),
        (["generated.xyz", "--suites", "edm", "--relax", "organic-xtb"], "--relax measures strain"),
        (["generated.xyz", "--reference", "missing.smi"], "no file missing.smi"),
        (["generated.xyz", "--relax", "no-model"], "no-model"),
        (["generated.xyz", "--csv", "generated.xyz/rows.csv"], "generated.xyz is not a folder"),
    ],
)
def test_bad_requests(run, generated: Path, words: list[str], message: str) -> None:
    result = run("evaluate", "molecules", *words)
    assert result.status == 1
    assert message in result.err
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1


def test_config_file(run, generated: Path) -> None:
    Path("options.yaml").write_text("suites: edm\njson: true\n")
    result = run("evaluate", "molecules", generated, "--config", "options.yaml")
    assert list(json.loads(result.out)["suites"]) == ["edm"]


def test_potentials_are_evaluated_as_before(run, model: str, data: Path) -> None:
    result = run("evaluate", model, data, "--json")
    assert result.status == 0
    assert json.loads(result.out)["errors"]["all"]["structures"] == 20
    assert "DATA..." in run("evaluate", "--help").out
    assert "--suites" in run("evaluate", "molecules", "--help").out
