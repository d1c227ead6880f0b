"""`atomsml evaluate molecules`: table, JSON, CSV, relaxation; and `atomsml evaluate MODEL DATA` goes on working."""

import csv
import json
from pathlib import Path

import ase.io
import pytest
from ase.build import molecule
from rdkit import Chem
from rdkit.Chem import rdDepictor

from atomsml.io import mol_from_smiles


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
    assert set(said["suites"]) == {"edm", "strict", "composition"}
    assert said["suites"]["strict"]["metrics"]["novel"]["value"] == 0.5
    with Path("rows.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["smiles"] for row in rows[:2]] == ["C", "O"]
    assert [row["index"] for row in rows] == ["0", "1", "2"]
    assert rows[0]["edm"] == rows[0]["strict"] == ""
    assert rows[2]["edm"] == "atom 0: C with valence 3, and 1 more unstable atoms"
    assert rows[2]["strict"]


def test_composition_beside_the_reference_that_comes_with_atomsml(run, generated: Path) -> None:
    result = run(
        "evaluate", "molecules", generated, "--suites", "composition", "--reference", "qm9-xtb", "--csv", "r.csv"
    )
    assert result.status == 0
    lines = result.out.splitlines()
    assert lines[0] == "3 molecules, compared with qm9-xtb"
    assert "composition-1" in lines[2]
    start = lines.index("") + 1
    assert " ".join(lines[start].split()) == "molecules with value from to unit reference factor"
    # 2 of 2 are acyclic, 14.11 % of the reference: (2.5 / 3) / 0.14107
    (row,) = [line.split() for line in lines[start:] if line.startswith("acyclic")]
    assert row == ["acyclic", "100.00", "34.24", "100.00", "%", "14.11", "5.91"]
    assert all(line.split()[-1] != "-" for line in lines[start + 1 :] if float(line.split()[-2]) >= 2)
    factors = [float(line.split()[-1]) for line in lines[start + 1 :] if not line.endswith("-")]
    assert factors == sorted(factors, reverse=True)
    with Path("r.csv").open() as file:
        assert next(csv.DictReader(file)).keys() == {"file", "index", "formula", "smiles"}


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
        (
            ["generated.xyz", "--suites", "edm,stric"],
            "unknown suite 'stric'; choose among edm, strict, composition, geo",
        ),
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


def test_what_is_no_molecule_in_space_is_named_and_the_others_are_judged(run) -> None:
    """A drawing and a skeleton without hydrogens among three records; with --strict nothing is judged."""
    flat = Chem.MolFromSmiles("CCO")
    rdDepictor.Compute2DCoords(flat)
    mols = [mol_from_smiles("CCO"), flat, Chem.RemoveHs(mol_from_smiles("CO"))]
    Path("three.sdf").write_text("".join(f"{Chem.MolToMolBlock(mol)}$$$$\n" for mol in mols))
    result = run("evaluate", "molecules", "three.sdf", "--suites", "strict", "--csv", "why.csv", "--json")
    assert result.status == 1
    said = json.loads(result.out)
    assert said["molecules"] == 1
    assert said["suites"]["strict"]["metrics"]["valid_uncharged"]["value"] == 1
    assert [each["index"] for each in said["failed"]] == [1, 2]
    assert "three.sdf, frame 1: has no geometry in three dimensions" in result.err
    assert "three.sdf, frame 2: lacks hydrogens" in result.err
    assert result.err.splitlines()[-1] == "2 of 3 inputs were refused and left out"
    with Path("why.csv").open() as file:
        assert [row["smiles"] for row in csv.DictReader(file)] == ["CCO"]
    stopped = run("evaluate", "molecules", "three.sdf", "--strict")
    assert stopped.status == 1
    assert stopped.err.startswith("error: three.sdf, frame 1: has no geometry in three dimensions")


def test_molecules_are_not_novel_against_themselves_and_charges_are_counted_apart(run) -> None:
    """Sulfoxides and thioamides, whichever way their SMILES write charges; a zwitterion is valid and charged."""
    smiles = ["CS(C)=O", "CCS(=O)c1ccccc1", "NC(=S)c1cccs1", "O=[N+]([O-])c1ccccc1", "[NH3+]CC(=O)[O-]"]
    with Chem.SDWriter("set.sdf") as writer:
        for each in smiles:
            writer.write(mol_from_smiles(each))
    Path("set.smi").write_text("\n".join(["C[S+](C)[O-]", "CC[S+]([O-])c1ccccc1", *smiles[2:]]))
    result = run("evaluate", "molecules", "set.sdf", "--reference", "set.smi", "--suites", "strict", "--json")
    metrics = json.loads(result.out)["suites"]["strict"]["metrics"]
    assert {name: metric["value"] for name, metric in metrics.items()} == {
        "valid": 1,
        "valid_uncharged": 0.8,
        "valid_connected": 1,
        "unique": 1,
        "novel": 0,
    }
