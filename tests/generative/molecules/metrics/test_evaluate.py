"""evaluate_molecules as a whole, what it refuses, and PoseBusters where it is installed."""

import gzip
import json
from importlib.util import find_spec
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
from ase.build import molecule
from rdkit import Chem
from rdkit.Chem import rdDepictor

from atomsml.generative.molecules.metrics.evaluate import Reference, evaluate_molecules
from atomsml.generative.molecules.metrics.perception import perceive
from atomsml.generative.molecules.metrics.posebusters import bust, posebusters
from atomsml.generative.molecules.metrics.reading import read_generated, read_reference
from atomsml.io import atoms_from_smiles, mol_from_smiles


def test_edm_alone_perceives_nothing() -> None:
    found = evaluate_molecules([molecule("CH4")], ["edm"])
    assert list(found.suites) == ["edm"]
    assert found.smiles == ("",)


def test_everything_is_said() -> None:
    reference = Reference("two", [molecule("CH4"), molecule("H2O")])
    suites = ["edm", "strict", "composition", "geometry"]
    found = evaluate_molecules([molecule("CH4"), molecule("NH3")], suites, reference)
    said = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert said["molecules"] == 2
    assert said["reference"] == {"name": "two", "sha256": reference.sha256, "molecules": 2}
    assert said["suites"]["strict"]["metrics"]["novel"]["value"] == 0.5
    assert said["suites"]["edm"]["metrics"]["novelty"]["value"] == 0.5
    assert said["suites"]["composition"]["reference"]["acyclic"]["value"] == 1
    for name, suite in said["suites"].items():
        assert suite["version"].startswith(f"{name}-")
        assert suite["thresholds"]
        assert all(set(metric) == {"value", "low", "high", "of", "unit"} for metric in suite["metrics"].values())


def test_composition_is_the_same_of_positions_and_of_smiles(tmp_path: Path) -> None:
    """Of valid connected molecules alone; the bonds that are perceived are those of the SMILES."""
    smiles = ["CCO", "CC=O", "C1CC1", "c1ccoc1", "NC=O", "CC#N"]
    molecules = [atoms_from_smiles(text) for text in smiles]
    (tmp_path / "list.smi").write_text("\n".join(smiles))
    pieces = molecule("H2O") + ase.Atoms("CH4", molecule("CH4").positions + 6.0)
    references = [Reference("molecules", [*molecules, pieces, molecule("CH3")]), read_reference(tmp_path / "list.smi")]
    judged = [*molecules, pieces, molecule("CH3")]
    found = [evaluate_molecules(judged, ["composition"], reference).suites["composition"] for reference in references]
    assert found[0].types["acyclic"].of == len(smiles)
    assert found[0].metrics["distance"].value == found[1].metrics["distance"].value == 0
    assert {name: metric.value for name, metric in found[0].reference.items() if name in found[0].types} == {
        name: metric.value for name, metric in found[1].reference.items() if name in found[1].types
    }


def test_the_reference_that_comes_with_atomsml() -> None:
    reference = read_reference("qm9-xtb")
    assert reference.to_json()["molecules"] == 21276
    found = evaluate_molecules([molecule("CH3CH2OH")], ["edm", "strict", "composition"], reference)
    assert "novel" not in found.suites["strict"].metrics  # it names no molecules
    assert "novelty" not in found.suites["edm"].metrics
    share = found.suites["composition"].reference["alkyne"]
    assert share.of == 21276
    assert share.low < 3285 / 21276 < share.high


def test_hash_of_a_reference(tmp_path: Path) -> None:
    """It is that of the molecules, in whatever file they are, and changes with them."""
    images = [molecule("CH4"), molecule("C2H6")]
    for name in ("a.xyz", "a.extxyz"):
        ase.io.write(tmp_path / name, images)
    hashes = {read_reference(tmp_path / name).sha256 for name in ("a.xyz", "a.extxyz")}
    assert hashes == {Reference("", images).sha256}
    moved = [images[0], images[1].copy()]
    moved[1].positions[0, 0] += 0.001
    assert Reference("", moved).sha256 not in hashes


@pytest.mark.parametrize(
    ("suites", "message"),
    [(["edm", "best"], "unknown suite 'best'"), (["geometry"], "needs molecules to compare with")],
)
def test_what_it_refuses(suites: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate_molecules([molecule("CH4")], suites, Reference("words", smiles=frozenset({"C"})))


def test_no_molecules() -> None:
    with pytest.raises(ValueError, match="no molecules"):
        evaluate_molecules([])


@pytest.mark.skipif(find_spec("posebusters") is not None, reason="it is installed")
def test_posebusters_says_how_to_install_it() -> None:
    with pytest.raises(ValueError, match="pip install posebusters"):
        evaluate_molecules([molecule("CH4")], ["posebusters"])


@pytest.mark.skipif(find_spec("posebusters") is None, reason="PoseBusters is not installed")
def test_posebusters() -> None:
    clash = atoms_from_smiles("c1ccccc1C")
    clash.positions[1] += [0, 0, 0.7]  # a ring that is not flat
    molecules = [atoms_from_smiles("CCO"), molecule("CH3"), clash]
    perceived = list(perceive(molecules))
    result = posebusters(perceived, list(bust(molecules, perceived)))
    assert result.failures[0] == ""
    assert result.failures[1].startswith("no bond orders")
    assert "flatness" in result.failures[2]
    assert result.metrics["pass"].value == 1 / 3
    assert result.metrics["sanitization"].value == 2 / 3


def test_sdf_is_read_without_its_bonds(tmp_path: Path) -> None:
    """The record says that water is two hydrogen molecules of one oxygen; records without sense are read as well."""
    text = """

     RDKit          3D

  3  1  0  0  0  0  0  0  0  0999 V2000
    0.0000    0.0000    0.1193 O   0  0
    0.0000    0.7632   -0.4770 H   0  0
    0.0000   -0.7632   -0.4770 H   0  0
  2  3  3  0
M  END
$$$$
"""
    (tmp_path / "odd.sdf").write_text(text[1:] + text[1:])
    first, second = read_generated(tmp_path / "odd.sdf")
    assert first == second
    found = evaluate_molecules([first])
    assert found.smiles == ("O",)
    assert found.suites["strict"].metrics["valid"].value == 1


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_every_record_is_judged(tmp_path: Path, suffix: str) -> None:
    text = "".join(Chem.MolToMolBlock(mol_from_smiles(smiles)) + "$$$$\n" for smiles in ("CCO", "O", "c1ccccc1"))
    path = tmp_path / f"three.sdf{suffix}"
    path.write_bytes(gzip.compress(text.encode()) if suffix else text.encode())
    assert [str(atoms.symbols.formula.format("hill")) for atoms in read_generated(path)] == ["C2H6O", "H2O", "C6H6"]


@pytest.mark.parametrize(("flat", "reason"), [(True, "has no geometry in three dim"), (False, "lacks hydrogens")])
def test_drawings_and_skeletons_are_no_molecules_to_judge(tmp_path: Path, flat: bool, reason: str) -> None:
    mol = mol_from_smiles("CCO")
    if flat:
        rdDepictor.Compute2DCoords(mol)
    else:
        mol = Chem.RemoveHs(mol)
    (tmp_path / "a.sdf").write_text(f"{Chem.MolToMolBlock(mol)}$$$$\n")
    with pytest.raises(ValueError, match=rf"a.sdf, frame 0: {reason}"):
        read_generated(tmp_path / "a.sdf")


def test_hdf5(tmp_path: Path) -> None:
    import h5py

    images = [molecule("CH4"), molecule("H2O")]
    with h5py.File(tmp_path / "some.h5", "w") as file:
        file["offsets"] = [0, 5, 8]
        file["numbers"] = np.concatenate([atoms.numbers for atoms in images])
        file["positions"] = np.concatenate([atoms.positions for atoms in images])
    read = read_generated(tmp_path / "some.h5")
    assert [atoms.get_chemical_formula() for atoms in read] == ["CH4", "H2O"]
    np.testing.assert_allclose(read[1].positions, images[1].positions)


def test_references_of_smiles(tmp_path: Path) -> None:
    (tmp_path / "a.smi").write_text("OCC ethanol\n\nC[C@H](N)C(=O)O\n")
    (tmp_path / "a.csv").write_text("name,SMILES\nethanol,OCC\nnothing,\nalanine,CC(N)C(=O)O\n")
    expected = {"CCO", "CC(N)C(=O)O"}
    assert read_reference(tmp_path / "a.smi").smiles == read_reference(tmp_path / "a.csv").smiles == expected


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.smi", "CCO\nC1CC\n", "a.smi, line 2: 'C1CC' is no SMILES"),
        ("a.smi", "\n", "holds no SMILES"),
        ("a.csv", "name\nCCO\n", "has no column smiles"),
        ("a.sdf", "not\nan\nsdf\nat all\n", "a.sdf, frame 0: is no readable SDF record"),
        ("a.xyz", "2\n\nH 0 0 0\n", "a.xyz"),
        ("a.xyz", "1\n\nH 0 0 nan\n", "a.xyz, frame 0: the position of atom 0 is not finite"),
        ("a.h5", "no HDF5", "cannot be read as HDF5"),
        ("a.extxyz", '1\nLattice="5 0 0 0 5 0 0 0 5" pbc="T T T"\nH 0 0 0\n', "a.extxyz, frame 0: is periodic"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read_reference(tmp_path / name)
    assert "\n" not in str(error.value)


def test_missing_files(tmp_path: Path) -> None:
    for name in ("a.sdf", "a.smi"):
        with pytest.raises(FileNotFoundError, match="no file"):
            read_reference(tmp_path / name)


def test_atoms_that_are_broken_are_read(tmp_path: Path) -> None:
    """Overlapping atoms are for the suites to judge."""
    ase.io.write(tmp_path / "a.xyz", ase.Atoms("H2O", np.zeros((3, 3))))
    found = evaluate_molecules(read_generated(tmp_path / "a.xyz"))
    assert found.suites["strict"].metrics["valid"].value == 0
    assert found.suites["edm"].metrics["molecule_stability"].value == 0
