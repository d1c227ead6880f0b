"""Reading lists of SMILES for training."""

from __future__ import annotations

import gzip
from pathlib import Path

import h5py
import numpy as np
import pytest
from rdkit import Chem

from atomsml.generative.core.set import hold_out
from atomsml.generative.graphs.data import read_graphs

SMILES = ["CCO", "c1ccccc1C", "C[N+](=O)[O-]", "CC(F)Cl"]


def smiles_of(path: Path) -> list[str]:
    samples = read_graphs([path])
    return [Chem.MolToSmiles(mol) for mol in samples.batch(np.arange(len(samples))).to_mols()]


@pytest.fixture(params=["list.smi", "list.csv", "list.csv.gz", "list.h5"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / request.param
    if path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file["smiles"] = SMILES
        return path
    text = "\n".join(["smiles"] * (".csv" in path.name) + SMILES) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def test_every_format_gives_the_same_graphs(path: Path) -> None:
    assert smiles_of(path) == [Chem.CanonSmiles(smiles) for smiles in SMILES]


def test_what_no_generator_draws_is_left_out_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "mixed.smi"
    path.write_text("CCO\n[NH4+]\nCC(=O)[O-]\n[CH3]\nCCN\n")
    samples = read_graphs([path])
    assert len(samples) == 2
    first, second = samples.warnings
    assert "2 of 5 molecules are not neutral and are left out (the first is line 2)" in first
    assert "1 of 5 molecules have atoms or bonds that no such graph has" in second


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("CCO\nC1CC\n", "line 2: SMILES 'C1CC' cannot be parsed"),
        ("CCO\nC.C\n", "line 2: SMILES 'C.C' has 2 fragments"),
        ("[NH4+]\n", "holds no neutral molecule"),
        ("", "holds no neutral molecule"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "bad.smi").write_text(content)
    with pytest.raises(ValueError, match=said):
        read_graphs([tmp_path / "bad.smi"])


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_text("1\n\nO 0 0 0\n")
    with pytest.raises(ValueError, match=r"is no list of SMILES; give \.smi"):
        read_graphs([tmp_path / "a.xyz"])
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["numbers"] = [1]
    with pytest.raises(ValueError, match="has no SMILES"):
        read_graphs([tmp_path / "a.h5"])
    with pytest.raises(FileNotFoundError, match="check the path"):
        read_graphs([tmp_path / "absent.smi"])


def test_the_same_molecule_is_held_out_with_all_its_spellings(tmp_path: Path) -> None:
    (tmp_path / "a.smi").write_text("\n".join(["CCO", "OCC", "C[C@H](N)O", "C[C@@H](N)O", "CCC", "CCN", "CCF"]))
    samples = read_graphs([tmp_path / "a.smi"])
    assert len(set(samples.hashes().tolist())) == 5
    for seed in range(8):
        train, valid = hold_out(samples, 2, seed)
        assert not set(train.hashes().tolist()) & set(valid.hashes().tolist())
        assert len(train) + len(valid) == 7
