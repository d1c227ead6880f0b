"""`atomsml evaluate backbones`: table, JSON, CSV, picture, novelty, and inputs that are no good."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import gemmi
import numpy as np
import pytest
from PIL import Image

from atomsml.generative.proteins.backbones import Chain
from atomsml.generative.proteins.io.files import read_chains, write_chains

FIXTURES = Path(__file__).parents[2] / "data" / "proteins"


@pytest.fixture
def generated(tmp_path: Path) -> Path:
    """Two models: a natural chain, and its mirror image with a break after its fifth residue."""
    (chain,) = read_chains(FIXTURES / "2xcj.pdb.gz")
    mirrored = -chain.coordinates[:40]
    mirrored[5:] += 4.0
    path = tmp_path / "generated.pdb"
    write_chains(path, [chain, Chain(mirrored, "G" * 40, tuple(map(str, range(1, 41))))])
    return path


def test_table_and_rows_say_what_is_wrong(run, generated: Path) -> None:
    result = run("evaluate", "backbones", generated, "--csv", "rows.csv")
    assert result.status == 0
    lines = result.out.splitlines()
    assert lines[0] == "2 chains"
    rows = {" ".join(line.split()[:-5]): line.split()[-5:] for line in lines[2:-3]}
    assert rows["geometry-1 unbroken"] == rows["geometry-1 mirror images"] == ["50.00", "9.45", "90.55", "%", "2"]
    assert "tm-score-1 novel" not in rows
    assert lines[-3:] == [
        "without --reference nothing is said of what is novel",
        "1 of 2 chains have something wrong; --csv says what",
        "whether a sequence folds to them (designability) is not measured",
    ]
    with Path("rows.csv").open() as file:
        first, second = csv.DictReader(file)
    assert first["wrong"] == ""
    assert first["residues"] == "84"
    assert "broken after 5; a mirror image" in second["wrong"]
    assert second["file"].endswith("generated.pdb, model 2")


def test_json_has_novelty_thresholds_and_what_the_reference_has(run, generated: Path) -> None:
    reference = generated.parent / "known"
    reference.mkdir()
    shutil.copy(FIXTURES / "2xcj.pdb.gz", reference)
    result = run("evaluate", "backbones", generated, "--reference", reference, "--picture", "found.png", "--json")
    assert result.status == 0
    said = json.loads(result.out)
    assert said["reference"]["name"] == "known"
    assert said["reference"]["chains"] == 1
    suites = said["suites"]
    assert suites["tm_score"]["metrics"]["nearest_max"]["value"] == pytest.approx(1, abs=1e-6)
    assert suites["tm_score"]["metrics"]["novel"]["of"] == 2
    assert suites["geometry"]["thresholds"]["ca_ca"] == pytest.approx([3.6, 4.0])
    assert suites["secondary_structure"]["reference"]["helix"]["value"] > 0.6
    with Image.open("found.png") as picture:
        assert picture.size == (1500, 1350)


def test_mmcif_archives_and_folders_are_read(run, generated: Path) -> None:
    folder = generated.parent / "many"
    folder.mkdir()
    write_chains(folder / "a.cif.gz", read_chains(generated, split=False))
    shutil.copy(FIXTURES / "1guu.pdb.gz", folder)
    result = run("evaluate", "backbones", folder, "--json")
    assert json.loads(result.out)["chains"] == 3


def test_files_that_hold_no_backbone_are_named_and_the_others_judged(run, generated: Path) -> None:
    water = generated.parent / "water.pdb"
    water.write_text("HETATM    1  O   HOH A   1       0.000   0.000   0.000  1.00  0.00           O\n")
    result = run("evaluate", "backbones", generated, water)
    assert result.status == 1
    assert result.out.splitlines()[0] == "2 chains"
    assert f"refused: {water}: holds no backbone of a protein: no residue has N, CA and C" in result.err
    assert "1 of 2 inputs were refused and left out" in result.err
    alone = run("evaluate", "backbones", water)
    assert alone.status == 1
    assert alone.out == ""
    assert len(alone.err.splitlines()) == 1
    assert "holds no backbone" in alone.err


def test_an_empty_folder_and_an_empty_reference_are_one_line(run, generated: Path) -> None:
    folder = generated.parent / "empty"
    folder.mkdir()
    for arguments in ([folder], [generated, "--reference", folder]):
        result = run("evaluate", "backbones", *arguments)
        assert result.status == 1
        assert len(result.err.splitlines()) == 1
        assert f"{folder}: has no file of proteins" in result.err


def test_unknown_residues_are_told(run, generated: Path) -> None:
    structure = gemmi.read_structure(str(FIXTURES / "1guu.pdb.gz"))
    for residue in list(structure[0][0])[:3]:
        residue.name = "QQQ"
    path = generated.parent / "strange.pdb"
    structure.write_pdb(str(path))
    result = run("evaluate", "backbones", path)
    assert result.status == 0
    assert "note: 3 residues of 1 chains have unknown names" in result.err


def test_designability_is_refused(run, generated: Path) -> None:
    result = run("evaluate", "backbones", generated, "--designability")
    assert result.status == 1
    assert "designability is not measured" in result.err
    assert "ProteinMPNN" in result.err
    assert result.out == ""


def test_one_residue_has_no_fold(run, tmp_path: Path) -> None:
    write_chains(tmp_path / "one.pdb", [Chain(np.eye(4, 3)[None], "G", ("1",))])
    result = run("evaluate", "backbones", tmp_path / "one.pdb", "--json")
    assert result.status == 0
    metrics = json.loads(result.out)["suites"]["geometry"]["metrics"]
    assert metrics["ca_ca"]["value"] is None
