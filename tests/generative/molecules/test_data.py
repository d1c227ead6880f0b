"""Molecules as they are in files, refused where they cannot be learnt from, split by content, batched by size."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import ase
import ase.io
import h5py
import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from rdkit import Chem
from rdkit.Chem import rdDepictor, rdDistGeom

from atomsml.generative.core.set import hold_out
from atomsml.generative.core.training.loader import POOL, SampleBatchConfig, SampleLoader
from atomsml.generative.molecules.data import bonds_from_smiles, read_molecules
from atomsml.generative.molecules.metrics.reading import read_generated
from atomsml.generative.molecules.molecules import Molecules
from atomsml.generative.molecules.set import MoleculeSet

SMILES = ("CCO", "c1ccccc1O", "C#N", "CC(=O)N", "FC(F)F", "C1CC1", "O")
CODES = {"SINGLE": 1, "DOUBLE": 2, "TRIPLE": 3, "AROMATIC": 4}


def embedded(smiles: str) -> Chem.Mol:
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=1) == 0
    return mol


def numbers_of(mol: Chem.Mol) -> np.ndarray:
    return np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()])


def bonds_of(mol: Chem.Mol) -> set[tuple[int, int, int]]:
    return {(b.GetBeginAtomIdx(), b.GetEndAtomIdx(), CODES[str(b.GetBondType())]) for b in mol.GetBonds()}


def dense_of(mol: Chem.Mol, nodes: int) -> torch.Tensor:
    dense = torch.zeros(nodes, nodes, dtype=torch.int64)
    for i, j, order in bonds_of(mol):
        dense[i, j] = dense[j, i] = order
    return dense


def write_hdf5(path: Path, mols: list[Chem.Mol], smiles: list[str], **arrays: np.ndarray) -> Path:
    with h5py.File(path, "w") as file:
        file["offsets"] = np.cumsum([0, *(mol.GetNumAtoms() for mol in mols)])
        file["numbers"] = np.concatenate([numbers_of(mol) for mol in mols]).astype(np.uint8)
        file["positions"] = np.concatenate([mol.GetConformer().GetPositions() for mol in mols])
        file["smiles"] = smiles
        for name, values in arrays.items():
            file[name] = values
    return path


def write_sdf(path: Path, mols: list[Chem.Mol], kekulize: bool = True) -> Path:
    with Chem.SDWriter(str(path)) as writer:
        writer.SetKekulize(kekulize)
        for mol in mols:
            writer.write(mol)
    return path


def read_error(path: Path) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        read_molecules([path])
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz", ".bz2"])
def test_extxyz(tmp_path: Path, suffix: str) -> None:
    images = [molecule(name) for name in ("H2O", "C6H6", "CH4")]
    images[0].info["gap"] = 7.5
    images[2].info |= {"gap": 9, "name": "methane", "closed": True}
    ase.io.write(tmp_path / "m.extxyz", images)
    path = tmp_path / f"m.extxyz{suffix}"
    packed: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress}
    if suffix:
        path.write_bytes(packed[suffix]((tmp_path / "m.extxyz").read_bytes()))
    found = read_molecules([path])
    assert found.sizes.tolist() == [3, 12, 5]
    assert found.elements == (1, 6, 8)
    assert found.rows() == [atoms.numbers.tolist() for atoms in images]
    assert list(found.properties) == ["gap"]
    np.testing.assert_array_equal(found.properties["gap"], [7.5, np.nan, 9.0])
    assert not found.bonds_known.any()
    batch = found.batch(np.array([1, 0]), ["gap"])
    for atoms, again in zip((images[1], images[0]), batch.to_ase(), strict=True):
        np.testing.assert_allclose(again.positions, atoms.positions - atoms.positions.mean(axis=0), atol=1e-6)
    assert batch.numbers.shape == (2, 12)
    assert not batch.positions[1, 3:].any()
    assert batch.bonds is None
    torch.testing.assert_close(batch.conditions["gap"], torch.tensor([np.nan, 7.5]), equal_nan=True)


@pytest.mark.parametrize("kekulize", [True, False])
def test_bonds_of_an_sdf_file_are_those_of_rdkit(tmp_path: Path, kekulize: bool) -> None:
    mols = [embedded(smiles) for smiles in SMILES]
    mols[0].SetProp("gap", "1.25")
    mols[1].SetProp("id", "phenol")
    found = read_molecules([write_sdf(tmp_path / "m.sdf", mols, kekulize)])
    assert found.bonds_known.all()
    assert found.warnings == ()
    np.testing.assert_array_equal(found.properties["gap"], [1.25, *[np.nan] * (len(mols) - 1)])
    batch = found.batch(np.arange(len(mols)))
    assert batch.bonds is not None
    for i, mol in enumerate(mols):
        assert torch.equal(batch.bonds[i], dense_of(mol, batch.numbers.shape[1])), SMILES[i]


def test_bonds_of_smiles_in_hdf5(tmp_path: Path) -> None:
    mols = [embedded(smiles) for smiles in SMILES]
    arrays = {"gap": np.arange(7.0), "forces": np.zeros((sum(m.GetNumAtoms() for m in mols), 3))}
    found = read_molecules([write_hdf5(tmp_path / "m.h5", mols, list(SMILES), **arrays)])
    assert found.bonds_known.all()
    assert list(found.properties) == ["gap"]
    batch = found.batch(np.arange(7), ["gap"])
    assert batch.bonds is not None
    for i, mol in enumerate(mols):
        assert torch.equal(batch.bonds[i], dense_of(mol, batch.numbers.shape[1])), SMILES[i]


def test_smiles_of_other_atoms_or_in_another_order_give_no_bonds(tmp_path: Path) -> None:
    ethanol = embedded("CCO")
    numbers, positions = numbers_of(ethanol), ethanol.GetConformer().GetPositions()
    assert bonds_from_smiles("CCO", numbers, positions) is not None
    assert bonds_from_smiles("COC", numbers, positions) is None  # elements
    swapped = positions.copy()
    swapped[[0, 1]] = positions[[1, 0]]  # the same elements, but the oxygen is now at the wrong carbon
    assert bonds_from_smiles("CCO", numbers, swapped) is None
    assert bonds_from_smiles("no smiles", numbers, positions) is None
    path = write_hdf5(tmp_path / "m.h5", [ethanol, embedded("O")], ["COC", "O"])
    found = read_molecules([path])
    assert found.bonds_known.tolist() == [False, True]
    assert found.batch(np.array([0])).bonds is None
    mixed = found.batch(np.array([0, 1])).bonds
    assert mixed is not None
    assert (mixed[0] == -1).all()
    assert mixed[1, :3, :3].tolist() == [[0, 1, 1], [1, 0, 0], [1, 0, 0]]
    assert found.warnings == (
        f"{path}: 1 of 2 molecules do not fit their SMILES (the first is molecule 0, counted from 0)",
    )


def test_files_are_joined_and_properties_that_one_lacks_are_unknown(tmp_path: Path) -> None:
    one, two = molecule("H2O"), molecule("CH4")
    one.info["a"], two.info["b"] = 1.0, 2.0
    ase.io.write(tmp_path / "one.extxyz", one)
    ase.io.write(tmp_path / "two.extxyz", two)
    sdf = write_sdf(tmp_path / "three.sdf", [embedded("C#N")])
    found = read_molecules([tmp_path / "one.extxyz", tmp_path / "two.extxyz", sdf])
    assert found.sizes.tolist() == [3, 5, 3]
    np.testing.assert_array_equal(found.properties["b"], [np.nan, 2.0, np.nan])
    turned = found.subset(np.array([2, 0]))
    assert turned.rows() == [found.rows()[2], found.rows()[0]]
    assert turned.bonds.tolist() == found.bonds.tolist()
    assert turned.bonds_known.tolist() == [True, False]


def test_what_cannot_be_learnt_from_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "m.extxyz"
    good, bad = molecule("H2O"), molecule("CH4")
    bad.positions[2, 1] = np.nan
    ase.io.write(path, [good, bad])
    assert "frame 1: the position of atom 2 is not finite" in read_error(path)
    ase.io.write(path, [good, ase.Atoms("CO", [[0, 0, 0], [0, 0, 0.4]])])
    assert "molecule 1 (counted from 0) has atoms closer than 0.5 A" in read_error(path)
    ase.io.write(path, [good, bulk("NaCl", "rocksalt", 5.6)])
    assert "frame 1: is periodic" in read_error(path)
    ase.io.write(path, [good, ase.Atoms("XO", [[0, 0, 0], [0, 0, 2]])])
    assert "frame 1: atom 0 is of no known element" in read_error(path)
    path.write_text("")
    assert "holds no structure" in read_error(path)
    path.write_text("3\n\nO 0 0 0\n")
    assert "cut off" in read_error(path)
    assert "frame 0: is no readable PDB model" in read_error(_written(tmp_path / "m.pdb", "END"))
    assert "cannot be read (UnknownFileTypeError" in read_error(_written(tmp_path / "m.unknown", "some words"))
    assert "cannot be read as HDF5" in read_error(_written(tmp_path / "m.h5", "text"))
    with pytest.raises(FileNotFoundError, match=r"no file .*absent.sdf; check the path"):
        read_molecules([tmp_path / "absent.sdf"])


def test_sdf_without_hydrogens_or_geometry_is_refused(tmp_path: Path) -> None:
    bare = Chem.RemoveHs(embedded("CCO"))
    assert "frame 1: lacks hydrogens" in read_error(write_sdf(tmp_path / "m.sdf", [embedded("O"), bare]))
    flat = Chem.AddHs(Chem.MolFromSmiles("CCO"))
    rdDepictor.Compute2DCoords(flat)
    assert "no geometry in three dimensions" in read_error(write_sdf(tmp_path / "m.sdf", [flat]))
    assert "is no readable SDF record" in read_error(_written(tmp_path / "m.sdf", "not\nan\nsdf\nfile\n$$$$\n"))
    whole = gzip.compress(write_sdf(tmp_path / "m.sdf", [embedded("CCO")] * 50).read_bytes())
    (tmp_path / "m.sdf.gz").write_bytes(whole[: len(whole) // 2])
    assert "check that it is complete" in read_error(tmp_path / "m.sdf.gz")


def test_molecules_in_pieces_are_kept_with_a_warning(tmp_path: Path) -> None:
    pair = molecule("H2O") + molecule("H2O")
    pair.positions[3:] += [3.0, 0, 0]
    ase.io.write(tmp_path / "m.extxyz", [molecule("CH4"), molecule("C6H6"), pair])
    (warning,) = read_molecules([tmp_path / "m.extxyz"]).warnings
    assert "1 of 3 molecules are of several pieces" in warning
    assert "the first is molecule 2, counted from 0" in warning


def charged_extxyz(path: Path) -> Path:
    images = [molecule("H2O"), ase.Atoms("OH", [[0, 0, 0], [0, 0, 0.97]]), molecule("CH4")]
    images[1].info["charge"] = -1
    ase.io.write(path, images)
    return path


def charged_sdf(path: Path) -> Path:
    return write_sdf(path, [embedded(smiles) for smiles in ("O", "[OH-]", "[NH3+]CC(=O)[O-]")])


def charged_hdf5(path: Path) -> Path:
    smiles = ["O", "[OH-]", "CC"]
    return write_hdf5(path, [embedded(each) for each in smiles], smiles)


@pytest.mark.parametrize("write", [charged_extxyz, charged_sdf, charged_hdf5])
def test_ions_are_left_out_and_counted(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    path = write(tmp_path / f"m.{write.__name__.removeprefix('charged_').replace('hdf5', 'h5')}")
    found = read_molecules([path, path])
    assert found.sizes.tolist() == 2 * [3, *found.sizes[1:2]]  # a zwitterion is neutral
    what = "1 of 3 molecules are not neutral and are left out (the first is molecule 1, counted from 0)"
    assert found.warnings == 2 * (f"{path}: {what}",)
    assert found.where(3) == f"{path}: molecule 2 (counted from 0)"
    assert found.subset(np.array([2, 0])).where(0) == f"{path}: molecule 0 (counted from 0)"


def test_ions_alone_are_refused(tmp_path: Path) -> None:
    message = read_error(write_sdf(tmp_path / "m.sdf", [embedded("[NH4+]"), embedded("CC(=O)[O-]")]))
    assert "2 of 2 molecules are not neutral" in message
    assert message.endswith("none remain, and generators draw neutral molecules; give some")


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def random_set(count: int, seed: int = 0) -> MoleculeSet:
    """Chains of 2 to 30 carbons; geometry is arbitrary but distinct."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 31, count)
    return MoleculeSet.from_rows(
        [np.full(size, 6) for size in sizes],
        [rng.normal(size=(size, 3)) for size in sizes],
        [None] * count,
        {"row": np.arange(count, dtype=float)},
    )


def test_splits_follow_the_content_and_the_seed() -> None:
    molecules = random_set(400)
    train, valid = hold_out(molecules, 0.1, seed=0)
    assert (len(train), len(valid)) == (360, 40)
    held = set(valid.properties["row"])
    assert held.isdisjoint(train.properties["row"])
    turned = molecules.subset(np.random.default_rng(1).permutation(400))
    assert set(hold_out(turned, 0.1, seed=0)[1].properties["row"]) == held
    other = set(hold_out(molecules, 40, seed=1)[1].properties["row"])
    assert len(other) == 40
    # of 40 drawn from 400 about 4 are expected in common, 15 hardly ever
    assert len(other & held) < 15
    for amount in (0, 400, 1.5, -1):
        with pytest.raises(ValueError, match="the held-out part must be"):
            hold_out(molecules, amount, seed=0)
    assert len(hold_out(molecules, 0.001, seed=0)[1]) == 1
    same = molecules.subset(np.zeros(4, int))
    with pytest.raises(ValueError, match="too alike"):
        hold_out(same, 0.5, seed=0)


def batches(loader: SampleLoader[Molecules], epoch: int = 0, start: int = 0) -> list[Molecules]:
    """Of one process, which has a share of each."""
    return [batch for batch in loader.epoch(epoch, start) if batch is not None]


def test_batches_hold_every_molecule_once_with_little_padding() -> None:
    molecules = random_set(5000)
    loader = SampleLoader(molecules, SampleBatchConfig(samples=16), seed=3)
    for epoch in (0, 1):
        plan = loader.plan(epoch)
        assert sorted(np.concatenate(plan).tolist()) == list(range(5000))
        assert max(map(len, plan)) == 16
    atoms = sum(int(batch.mask.sum()) for batch in batches(loader))
    places = sum(batch.numbers.numel() for batch in batches(loader))
    # a pool of 16 POOL molecules of 29 sizes: most batches are of one size
    assert POOL == 50
    assert atoms / places > 0.97
    sizes = [int(molecules.sizes[rows].mean()) for rows in loader.plan(0)]
    assert abs(np.corrcoef(sizes[:-1], sizes[1:])[0, 1]) < 0.2  # neither do small ones come first


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    molecules = random_set(300)

    def rows(seed: int, epoch: int, start: int = 0) -> list[list[float]]:
        loader = SampleLoader(molecules, SampleBatchConfig(samples=8), seed, ["row"])
        return [batch.conditions["row"].tolist() for batch in batches(loader, epoch, start)]

    assert rows(0, 4) == rows(0, 4)
    assert rows(0, 4, start=10) == rows(0, 4)[10:]
    assert rows(0, 4) != rows(0, 5)
    assert rows(0, 4) != rows(1, 4)


def test_a_budget_of_pairs_bounds_the_dense_size() -> None:
    molecules = random_set(1000)
    loader = SampleLoader(molecules, SampleBatchConfig(samples=None, pairs=5000), seed=0)
    shapes = [batch.numbers.shape for batch in batches(loader)]
    assert all(samples * nodes**2 <= 5000 for samples, nodes in shapes)
    assert max(samples for samples, _ in shapes) > 50
    assert sum(samples for samples, _ in shapes) == 1000
    tight = SampleLoader(molecules, SampleBatchConfig(samples=None, pairs=100), seed=0)
    assert all(
        samples == 1 or samples * nodes**2 <= 100 for samples, nodes in (b.numbers.shape for b in batches(tight))
    )
    in_order = [nodes for _, nodes in (batch.numbers.shape for _, batch in loader.in_order())]
    assert in_order == sorted(in_order)
    with pytest.raises(ValueError, match="at least one positive bound"):
        SampleBatchConfig(samples=None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"offsets": np.array([0.0, 2.0])}, "offsets must be an array of integers, got float64"),
        ({"numbers": np.array([1.5, 1.5])}, "numbers must be an array of integers"),
        ({"numbers": np.array([257, 257])}, "has an atom of no known element"),  # 1 in eight bits
        ({"positions": np.full((2, 3), b"a")}, "positions must be an array of numbers"),
        ({"smiles": np.array([1])}, "smiles cannot be read as text"),
        ({"smiles": np.array([b"\xff"])}, "smiles cannot be read as text"),
    ],
)
def test_hdf5_of_other_types_is_refused(tmp_path: Path, changes: dict[str, np.ndarray], message: str) -> None:
    arrays = {"offsets": np.array([0, 2]), "numbers": np.array([1, 1]), "positions": np.eye(3)[:2]}
    with h5py.File(tmp_path / "m.h5", "w") as file:
        for name, values in {**arrays, **changes}.items():
            file[name] = values
    assert message in read_error(tmp_path / "m.h5")


def test_a_number_of_atoms_that_no_file_has_is_refused(tmp_path: Path) -> None:
    text = "99999999999999999999\n\nH 0 0 0\n"
    assert "expected the number of atoms of frame 0" in read_error(_written(tmp_path / "m.xyz", text))
    with pytest.raises(ValueError, match="expected the number of atoms of frame 0"):
        read_generated(tmp_path / "m.xyz")


def test_pieces_of_a_large_molecule_are_found_between_small_ones(tmp_path: Path) -> None:
    chain = ase.Atoms("C1000", [[1.5 * i, 0, 0] for i in range(1000)])
    broken = chain.copy()
    broken.positions[500:] += 9
    ase.io.write(tmp_path / "m.xyz", [molecule("H2O"), chain, broken, molecule("CH4")])
    (warning,) = read_molecules([tmp_path / "m.xyz"]).warnings
    assert "1 of 4 molecules are of several pieces" in warning
    assert "the first is molecule 2" in warning
