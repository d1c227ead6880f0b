"""`atomsml generate graphs`: files, what is asked for, and clear refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rdkit import Chem
from rdkit.Chem.rdMolDescriptors import CalcMolFormula

from atomsml.generative.core.modelfile import save_generator
from atomsml.generative.graphs.graphs import MolecularGraphs
from atomsml.generative.graphs.model import GraphModel
from atomsml.generative.graphs.set import GraphSet

Run = Callable[..., Any]
SMILES = ("CCO", "COC", "CC(=O)N", "c1ccoc1", "Cc1ccoc1", "OCc1ccoc1", "CC#N", "CCN", "C1CC1O", "C=CC=O", "CC(C)=O")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Random weights, which draw no sensible molecules, but right ones."""
    graphs = MolecularGraphs.from_mols([Chem.MolFromSmiles(smiles) for smiles in SMILES])
    samples = GraphSet(graphs.to(torch.int8), np.arange(len(SMILES), dtype=np.uint64))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = GraphModel(GraphModel.Config(**GraphModel.measure(samples), channels=8, pair_channels=8, num_layers=1))
    made.fit(samples)
    path = tmp_path_factory.mktemp("graphs") / "tiny.safetensors"
    save_generator(made, path, {"licence": "MIT"})
    return str(path)


@pytest.fixture
def generate(run: Run, model: str) -> Run:
    def call(*words: object) -> Any:
        return run("generate", "graphs", "-m", model, "--steps", 3, *words)

    return call


def test_smiles_on_lines_or_in_a_table(generate: Run) -> None:
    done = generate("-n", 5, "--seed", 3, "--json")
    assert done.status == 0, done.err
    lines = Path("graphs.smi").read_text().splitlines()
    assert len(lines) == json.loads(done.out)["drawn"] == 5
    assert all(Chem.CanonSmiles(line) == line for line in lines)
    generate("-n", 3, "--seed", 3, "-o", "out.csv")
    assert Path("out.csv").read_text().splitlines() == ["smiles", *lines[:3]]


def test_formula_atoms_and_scaffold_are_obeyed(generate: Run) -> None:
    def drawn(*words: object) -> list[Chem.Mol]:
        done = generate("-n", 5, *words)
        assert done.status == 0, done.err
        return [Chem.MolFromSmiles(line) for line in Path("graphs.smi").read_text().split()]

    assert {CalcMolFormula(mol) for mol in drawn("--formula", "C5H6O2")} == {"C5H6O2"}
    assert {Chem.AddHs(mol).GetNumAtoms() for mol in drawn("--atoms", 9)} == {9}
    furan = Chem.MolFromSmiles("c1ccoc1")
    assert all(mol.HasSubstructMatch(furan) for mol in drawn("--scaffold", "c1ccoc1", "--formula", "C5H6O2"))


def test_a_picture_of_them(generate: Run) -> None:
    assert generate("-n", 3, "--picture", "some.svg").status == 0
    assert "<svg" in Path("some.svg").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--formula", "C2H5S"), "odd number"),
        (("--formula", "CH4S"), "does not know S; its heavy elements are C, N, O"),
        (("--formula", "H2"), "no heavy atoms"),
        (("--formula", "C2H6O", "--atoms", 9), "leave out --atoms"),
        (("--formula", "CH4O", "--scaffold", "CC"), "lacks C of the scaffold"),
        (("--scaffold", "C1CC"), "cannot be parsed"),
        (("--atoms", 1000), "has seen no molecule with 1000 atoms"),
        (("-o", "out.xyz"), "use the suffix .smi, .csv"),
        (("-n", 0), "-n must be at least 1"),
    ],
)
def test_bad_requests_get_one_line(generate: Run, words: tuple[object, ...], said: str) -> None:
    done = generate(*words)
    assert done.status == 1
    assert done.err.count("\n") == 1
    assert said in done.err
    assert not list(Path().glob("graphs.*"))
