"""`atomsml generate backbones`: files, lengths, motifs to the last digit, and clear refusals."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from atomsml.generative.core.modelfile import save_generator
from atomsml.generative.proteins.flow import BackboneFlow
from atomsml.generative.proteins.io import read_chains
from atomsml.generative.proteins.network import FrameNetworkConfig
from tests.browser import viewer_data

Run = Callable[..., Any]
DATA = Path(__file__).parents[2] / "data" / "proteins"
MOTIF = DATA / "1guu.pdb.gz"  # A 1 to 50


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Random weights, which draw no protein, but chains of 40 to 128 residues."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = FrameNetworkConfig(16, 8, num_layers=1, hidden=16)
        made = BackboneFlow(BackboneFlow.Config(network=network))
        for weight in made.network.parameters():  # some of which begin with zeros
            torch.nn.init.normal_(weight, std=0.1)
    path = tmp_path_factory.mktemp("backbones") / "tiny.safetensors"
    save_generator(made, path, {"licence": "MIT"})
    return str(path)


@pytest.fixture
def generate(run: Run, model: str) -> Run:
    def call(*words: object) -> Any:
        return run("generate", "backbones", "-m", model, "--steps", 3, *words)

    return call


def summary(output: str = "backbones") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(f"{output}.summary.json").read_text())
    return found


def coordinates(path: str) -> list[np.ndarray]:
    return [chain.coordinates for chain in read_chains(path, split=False)]


def test_models_of_one_file_or_files_of_a_folder(generate: Run) -> None:
    asked = ("-n", 3, "--length", 40, "--seed", 5, "--no-project")
    done = generate(*asked, "--json")
    assert done.status == 0, done.err
    report = json.loads(done.out)
    assert report["drawn"] == report["written"] == summary()["structures"] == 3
    text = Path("backbones.pdb").read_text()
    assert text.count("MODEL ") == text.count("TER ") == 3
    together = coordinates("backbones.pdb")
    assert [len(chain) for chain in together] == [40, 40, 40]
    assert generate(*asked, "-o", "some.cif.gz").status == 0
    np.testing.assert_array_equal(coordinates("some.cif.gz"), together)
    assert generate(*asked, "-o", "out/").status == 0
    assert sorted(path.name for path in Path("out").iterdir()) == [f"backbone-000{i}.pdb" for i in range(3)]
    np.testing.assert_array_equal([coordinates(f"out/backbone-000{i}.pdb")[0] for i in range(3)], together)
    assert summary("out")["outputs"] == [f"out/backbone-000{i}.pdb" for i in range(3)]


def test_a_backbone_depends_on_its_seed_alone(generate: Run) -> None:
    """Bits differ with the shape of a batch: 0.01 A, of chains that random weights draw through one another."""
    generate("-n", 5, "--length", "40-60", "--seed", 1, "--no-project")
    many = coordinates("backbones.pdb")
    assert len({len(chain) for chain in many}) > 1
    assert all(40 <= len(chain) <= 60 for chain in many)
    for words in (("-n", 2), ("-n", 5, "--batch", 1), ("-n", 5, "--batch", 3)):
        generate(*words, "--length", "40-60", "--seed", 1, "--no-project", "-o", "other.pdb")
        for own, other in zip(coordinates("other.pdb"), many, strict=False):
            np.testing.assert_allclose(own, other, atol=0.01)
    generate("-n", 5, "--length", "40-60", "--seed", 1, "--no-project", "-o", "again.pdb")
    assert Path("again.pdb").read_bytes() == Path("backbones.pdb").read_bytes()
    generate("-n", 5, "--length", "40-60", "--seed", 2, "-o", "other.pdb")
    assert [len(chain) for chain in coordinates("other.pdb")] != [len(chain) for chain in many]


def test_projection_closes_bonds_and_says_what_it_moved(generate: Run) -> None:
    generate("-n", 2, "--length", 40, "--no-project", "-o", "drawn.pdb")
    assert "projection" not in summary("drawn")
    assert {line[60:66].strip() for line in Path("drawn.pdb").read_text().splitlines() if line[:4] == "ATOM"} == {
        "0.00"
    }
    assert generate("-n", 2, "--length", 40).status == 0
    found = summary()
    assert found["projection"]["before"]["ca_ca"]["value"] < 0.5  # of random weights
    for i, (drawn, closed) in enumerate(zip(coordinates("drawn.pdb"), coordinates("backbones.pdb"), strict=True)):
        np.testing.assert_allclose(
            np.linalg.norm(np.diff(closed[:, 1], axis=0), axis=1), 3.8, atol=0.2
        )  # they run through themselves
        way = np.linalg.norm(closed[:, 1] - drawn[:, 1], axis=1)
        assert found["chains"][i]["moved"] == pytest.approx(np.sqrt((way**2).mean()), abs=0.002)
        assert found["chains"][i]["valid"] == "no"
        assert "from closed bonds" in found["chains"][i]["reason"]
        lines = [
            line for line in Path("backbones.pdb").read_text().split("ENDMDL")[i].splitlines() if line[:4] == "ATOM"
        ]
        np.testing.assert_allclose([float(line[60:66]) for line in lines if line[12:16] == " CA "], way, atol=0.01)


@pytest.mark.parametrize("project", ["--project", "--no-project"])
def test_a_motif_is_exact_to_the_last_digit(generate: Run, project: str) -> None:
    """Its atoms, its letters, and where they stand."""
    done = generate("-n", 4, "--motif", MOTIF, "--contig", "5-9,A5-24,3,A40,10-20", "--length", 50, project)
    assert done.status == 0, done.err
    with gzip.open(MOTIF, "rt") as file:
        lines = [line for line in file if line.startswith("ATOM") and line[12:16] in (" N  ", " CA ", " C  ", " O  ")]
    wanted = [(line[12:20], line[30:54]) for line in lines if 5 <= int(line[22:26]) <= 24 or int(line[22:26]) == 40]
    assert len(wanted) == 4 * 21
    models = Path("backbones.pdb").read_text().split("ENDMDL")[:4]
    starts = set()
    for text in models:
        atoms = [line for line in text.splitlines() if line.startswith("ATOM")]
        assert len(atoms) == 4 * 50
        found = [(line[12:20], line[30:54]) for line in atoms]
        start = found.index(wanted[0])
        assert 4 * 5 <= start <= 4 * 9
        assert found[start : start + 80] == wanted[:80]
        assert found[start + 92 : start + 96] == wanted[80:]
        assert {line[17:20] for line in atoms[:start]} == {"GLY"}
        starts.add(start)
    assert len(starts) > 1


def test_a_picture_and_a_page(generate: Run) -> None:
    done = generate("-n", 2, "--length", 40, "--picture", "some.png", "--report", "page.html")
    assert done.status == 0, done.err
    assert Path("some.png").read_bytes().startswith(b"\x89PNG")
    scenes = viewer_data(Path("page.html").read_text())["scenes"]
    assert [len(scene["ribbon"]) for scene in scenes] == [40, 40]
    assert set("".join(scene["ribbon"] for scene in scenes)) <= set("hsc")
    assert summary()["outputs"] == ["backbones.pdb", "some.png", "page.html"]


def test_what_the_model_has_not_seen_is_said(generate: Run) -> None:
    done = generate("-n", 1, "--length", 20)
    assert "note: the model was trained on 40 to 128 residues: of 20 it has seen none" in done.err
    assert "of 20 it has seen none" in summary()["notes"][0]
    assert generate("-n", 1, "--length", 64).err.count("note:") == 0


def test_options_of_the_sampler(generate: Run) -> None:
    drawn = set()
    walk = ("--sampler", "random-walk")
    for words in (("--sampler", "euler"), walk, (*walk, "--noise-scale", 0.1), ("--steps", 5)):
        done = generate("-n", 1, "--length", 40, "--no-project", *words)
        assert done.status == 0, done.err
        drawn.add(Path("backbones.pdb").read_text())
    assert len(drawn) == 4
    assert summary()["steps"] == 5


def test_a_run_that_is_stopped_keeps_what_is_finished(generate: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = BackboneFlow.sample
    calls = []

    def sample(self: BackboneFlow, *words: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return drawn(self, *words, **options)

    monkeypatch.setattr(BackboneFlow, "sample", sample)
    done = generate("-n", 4, "--length", 40, "--batch", 1, "-o", "out")
    assert done.status == 130
    assert "interrupted: 2 backbones are in out, of the 4 asked for" in done.err
    assert sorted(path.name for path in Path("out").iterdir()) == ["backbone-0000.pdb", "backbone-0001.pdb"]
    assert summary("out")["interrupted"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-n", 0), "-n must be at least 1"),
        (("--length", "0"), "is no range within 1 to 2048 residues"),
        (("--length", "70-60"), "is no range"),
        (("--length", "many"), "--length 'many' is no number of residues; write 64, or 60-100"),
        (("--noise-scale", -1), "--noise-scale must be a number from 0 on"),
        (("--sampler", "euler", "--noise-scale", 0.5), "adds no noise"),
        (("--sampler", "ddim"), "does not turn frames"),
        (("-o", "out.xyz"), "use the suffix .pdb, .cif, .pdb.gz, .cif.gz, or none for a folder"),
        (("--picture", "out.jpg"), "use the suffix .png, .pdf or .svg"),
        (("--contig", "10,A5-10"), "--contig needs --motif"),
        (("--motif", MOTIF), "--motif needs --contig"),
        (("--motif", "none.pdb", "--contig", "A5-10"), "no file none.pdb"),
        (("--motif", MOTIF, "--contig", "10,A45-60"), "has no residue A60"),
        (
            ("--motif", MOTIF, "--contig", "10,A5-40", "--length", 20),
            "the motif has 36 residues, more than --length 20",
        ),
        (("--motif", MOTIF, "--contig", "10-3000,A5"), "2048 are possible"),
    ],
)
def test_bad_requests_get_one_line(generate: Run, words: tuple[object, ...], said: str) -> None:
    done = generate(*words)
    assert done.status == 1
    assert done.err.count("\n") == 1
    assert said in done.err
    assert not list(Path().iterdir())


def test_files_that_are_no_motif(generate: Run) -> None:
    Path("water.pdb").write_text("HETATM    1  O   HOH A   1       0.000   0.000   0.000  1.00  0.00           O\n")
    done = generate("--motif", "water.pdb", "--contig", "A1")
    assert done.status == 1
    assert done.err == "error: water.pdb: holds no backbone of a protein: no residue has N, CA and C, not on one line\n"


def test_the_embedded_generator_draws_chains_that_are_right(run: Run) -> None:
    """All of its neighbours are 3.8 A apart once closed, nothing clashes, and a third at least is helix or strand."""
    result = run("generate", "backbones", "--length", "64", "-n", "4", "-o", "drawn.pdb", "--json")
    assert result.status == 0
    summary = json.loads(Path("drawn.summary.json").read_text())
    assert summary["model"]["name"] == "backbones-small"
    for chain in read_chains(Path("drawn.pdb")):
        ca = chain.coordinates[:, 1]
        assert len(ca) == 64
        assert (abs(np.linalg.norm(np.diff(ca, axis=0), axis=-1) - 3.8) < 0.2).all()
        far = np.linalg.norm(ca[:, None] - ca, axis=-1)[np.triu_indices(64, 3)]
        assert far.min() > 3.5 - 1e-3
