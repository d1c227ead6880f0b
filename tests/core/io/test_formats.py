"""Every format against the library that reads it, and hostile files."""

import bz2
import gzip
import json
import lzma
import re
import time
import zipfile

import ase.io
import numpy as np
import pytest
from ase.build import bulk, molecule
from pymatgen.io.ase import AseAtomsAdaptor
from rdkit import Chem
from rdkit.Chem import rdDepictor

from atomsml.io import Refused, StructureRecord, mol_from_smiles, read, read_records

CASES = ("CCO", "C[N+](C)(C)C", "CC(=O)[O-]", "[2H]C([2H])([2H])O", "C/C=C\\C", "CS(=O)C")


def records_of(path) -> list[StructureRecord]:
    found = list(read_records([str(path)]))
    assert not [record for record in found if isinstance(record, Refused)]
    return [record for record in found if isinstance(record, StructureRecord)]


def assert_is(record: StructureRecord, mol: Chem.Mol, tolerance: float) -> None:
    atoms = record.atoms
    assert atoms.numbers.tolist() == [atom.GetAtomicNum() for atom in mol.GetAtoms()]
    np.testing.assert_allclose(atoms.positions, mol.GetConformer().GetPositions(), rtol=0, atol=tolerance)
    assert atoms.info["charge"] == Chem.GetFormalCharge(mol)
    np.testing.assert_array_equal(atoms.get_initial_charges(), [atom.GetFormalCharge() for atom in mol.GetAtoms()])
    pairs = {(min(i, j), max(i, j)): order for i, j, order in atoms.info["bonds"].tolist()}
    kekulized = Chem.Mol(mol)
    Chem.Kekulize(kekulized, clearAromaticFlags=True)
    expected = {
        tuple(sorted((bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()))): bond.GetBondTypeAsDouble()
        for bond in kekulized.GetBonds()
    }
    assert pairs == expected
    heavy = [atom.GetIdx() for atom in mol.GetAtoms() if atom.GetIsotope() == 2]
    np.testing.assert_allclose(atoms.get_masses()[heavy], 2.014, atol=1e-3)


@pytest.mark.parametrize("v3000", [False, True])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("packed", ["", ".gz", ".bz2", ".xz"])
def test_every_record_of_an_sdf_file(tmp_path, v3000, ending, packed):
    mols = [mol_from_smiles(smiles) for smiles in CASES]
    blocks = [Chem.MolToMolBlock(mol, forceV3000=v3000) + f"> <gap>\n{i}.5\n\n$$$$\n" for i, mol in enumerate(mols)]
    content = "".join(blocks).replace("\n", ending).encode()
    path = tmp_path / f"all.sdf{packed}"
    pack = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}[packed]
    path.write_bytes(pack(content))
    records = records_of(path)
    assert [record.index for record in records] == list(range(len(CASES)))
    for i, (record, mol) in enumerate(zip(records, mols, strict=True)):
        assert_is(record, mol, 1e-4)
        assert record.fields["gap"] == i + 0.5


def test_a_record_without_an_empty_line_at_its_end_hides_no_other(tmp_path):
    """RDKit skips the record after one whose last data field ends at `$$$$` (rdkit#5467)."""
    blocks = [Chem.MolToMolBlock(mol_from_smiles(smiles)) for smiles in ("CCO", "O", "CC")]
    (tmp_path / "a.sdf").write_text(f"{blocks[0]}> <gap>\n1.5\n$$$$\n{blocks[1]}$$$$\n{blocks[2]}")
    records = records_of(tmp_path / "a.sdf")
    assert [record.atoms.get_chemical_formula() for record in records] == ["C2H6O", "H2O", "C2H6"]
    assert records[0].fields["gap"] == 1.5


def test_one_bad_record_of_an_sdf_file_is_refused_and_the_others_are_read(tmp_path):
    good, ethanol = Chem.MolToMolBlock(mol_from_smiles("O")), mol_from_smiles("CCO")
    flat = Chem.Mol(ethanol)
    rdDepictor.Compute2DCoords(flat)
    texts = [good, "no\nmol\nblock", Chem.MolToMolBlock(flat), Chem.MolToMolBlock(Chem.RemoveHs(ethanol)), good]
    (tmp_path / "a.sdf").write_text("".join(f"{text}\n$$$$\n" for text in texts))
    records = list(read_records([str(tmp_path / "a.sdf")]))
    reasons = [record.reason.split(";")[0] for record in records if isinstance(record, Refused)]
    assert [isinstance(record, Refused) for record in records] == [False, True, True, True, False]
    assert reasons == [
        "is no readable SDF record",
        "has no geometry in three dimensions",
        "lacks hydrogens",
    ]


def test_a_radical_states_its_multiplicity(tmp_path):
    for smiles, spin in (("[CH3]", 2), ("[CH2]", 3), ("C", None)):
        mol = mol_from_smiles(smiles)
        (tmp_path / "a.mol").write_text(Chem.MolToMolBlock(mol))
        assert read(smiles)[0].info.get("spin") == spin
        assert read(tmp_path / "a.mol")[0].info.get("spin") == spin


def test_mol2(tmp_path):
    text = """@<TRIPOS>MOLECULE
water
 3 2 0 0 0
SMALL
NO_CHARGES

@<TRIPOS>ATOM
 1 O  0.0  0.0    0.117 O.3 1 UNL1 0.0
 2 H1 0.0  0.757 -0.469 H   1 UNL1 0.0
 3 H2 0.0 -0.757 -0.469 H   1 UNL1 0.0
@<TRIPOS>BOND
 1 1 2 1
 2 1 3 1
"""
    (tmp_path / "a.mol2").write_text(text + text)
    records = records_of(tmp_path / "a.mol2")
    assert [len(record.atoms) for record in records] == [3, 3]
    assert_is(records[1], Chem.MolFromMol2Block(text, removeHs=False), 1e-6)


def test_pdb_models_and_cell_as_ase_reads_them(tmp_path):
    crystal = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    moved = crystal.copy()
    moved.positions += 0.25
    ase.io.write(tmp_path / "a.pdb", [crystal, moved])
    ours, theirs = read(tmp_path / "a.pdb"), ase.io.read(tmp_path / "a.pdb", ":")
    assert len(ours) == len(theirs) == 2
    for own, other in zip(ours, theirs, strict=True):
        assert own.numbers.tolist() == other.numbers.tolist()
        np.testing.assert_allclose(own.positions, other.positions, atol=1e-3)
        np.testing.assert_allclose(own.cell.array, other.cell.array, atol=1e-3)
        assert own.pbc.all()


def test_lists_of_smiles(tmp_path):
    (tmp_path / "a.smi").write_text("CCO ethanol\n\nC1CC nonsense\nO\twater drop\n")
    (tmp_path / "a.csv").write_text("name,SMILES,gap\nethanol,CCO,1\nbad,C1CC,2\nwater drop,O,3\n")
    for name in ("a.smi", "a.csv"):
        first, bad, last = read_records([str(tmp_path / name)])
        assert isinstance(first, StructureRecord)
        assert isinstance(last, StructureRecord)
        assert isinstance(bad, Refused)
        assert "line 3" in bad.reason
        assert (first.fields["name"], last.fields["name"]) == ("ethanol", "water drop")
        assert first.atoms == read("CCO")[0]


WATER = ("O 0 0 0.1", "H 0 0.75 -0.5", "H 0 -0.75 -0.5")


@pytest.mark.parametrize(
    ("atoms", "numbers"),
    [
        (("8 0 0 0.1", "1 0 0.75 -0.5", "1 0 -0.75 -0.5"), [8, 1, 1]),
        (("O1 0 0 0.1", "H2 0 0.75 -0.5", "H13 0 -0.75 -5.*^-1"), [8, 1, 1]),
        (("CL 0 0 0.1", "Br_2 0 0.75 -0.5", "t 0 -0.75 -0.5"), [17, 35, 1]),
        (("O 0 0 0.1 -0.3", "D 0 0.75 -0.5 0.1", "T 0 -0.75 -0.5 0.2"), [8, 1, 1]),
    ],
)
def test_names_of_atoms_in_xyz(tmp_path, atoms, numbers):
    (tmp_path / "a.xyz").write_text("\n".join(["3", "", *atoms, ""]))
    (read_atoms,) = read(tmp_path / "a.xyz")
    assert read_atoms.numbers.tolist() == numbers
    np.testing.assert_allclose(read_atoms.positions, [[0, 0, 0.1], [0, 0.75, -0.5], [0, -0.75, -0.5]])
    isotopes = {"D": 2.014, "T": 3.016, "t": 3.016}
    for i, line in enumerate(atoms):
        usual = ase.Atoms([numbers[i]]).get_masses()[0]
        assert read_atoms.get_masses()[i] == pytest.approx(isotopes.get(line.split()[0], usual), abs=1e-3)


def test_what_is_no_element_is_named_with_its_line(tmp_path):
    (tmp_path / "a.xyz").write_text("\n".join(["3", "", WATER[0], "Q1 0 0 0", WATER[2], "3", "", *WATER, ""]))
    bad, good = read_records([str(tmp_path / "a.xyz")])
    assert isinstance(bad, Refused)
    assert "line 4: 'Q1' is no element" in bad.reason
    assert isinstance(good, StructureRecord)


@pytest.mark.parametrize("case", [str.lower, str.upper, str.title])
def test_keys_of_extended_xyz_in_any_case(tmp_path, case):
    crystal = bulk("Cu", cubic=True)
    ase.io.write(tmp_path / "a.extxyz", [crystal])
    text = (tmp_path / "a.extxyz").read_text()
    for key in ("Lattice", "Properties", "pbc", "species", "pos"):
        text = text.replace(key, case(key))
    (tmp_path / "a.extxyz").write_text(text)
    (atoms,) = read(tmp_path / "a.extxyz")
    np.testing.assert_allclose(atoms.cell.array, crystal.cell.array, atol=1e-8)
    assert atoms.pbc.all()
    assert atoms.numbers.tolist() == crystal.numbers.tolist()


def test_a_cell_under_an_unknown_key_is_not_dropped(tmp_path):
    (tmp_path / "a.xyz").write_text('1\ncell="3 0 0 0 3 0 0 0 3"\nCu 0 0 0\n')
    with pytest.raises(ValueError, match="has 'cell' but no Lattice"):
        read(tmp_path / "a.xyz")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "latin-1", "utf-16"])
@pytest.mark.parametrize("name", ["a.xyz", "a.cif"])
def test_encodings_and_line_ends_of_windows(tmp_path, encoding, name):
    crystal = bulk("Cu", cubic=True)
    ase.io.write(tmp_path / name, crystal, format=name[2:] if name != "a.xyz" else "extxyz")
    text = (tmp_path / name).read_text()
    comment = "# in Ångström\n" if name == "a.cif" else ""
    text = comment + (text if comment else text.replace("pbc=", "by=Müller pbc="))
    (tmp_path / name).write_bytes(text.replace("\n", "\r\n").encode(encoding))
    (atoms,) = read(tmp_path / name)
    np.testing.assert_allclose(atoms.positions, crystal.positions, atol=1e-6)
    np.testing.assert_allclose(atoms.cell.cellpar(), crystal.cell.cellpar(), atol=1e-6)
    assert atoms.info.get("by", "Müller") == "Müller"


def test_charge_and_spin_of_a_comment_line(tmp_path):
    (tmp_path / "a.xyz").write_text("\n".join(["3", "total_charge=-1.0 multiplicity=2", *WATER, ""]))
    (atoms,) = read(tmp_path / "a.xyz")
    assert (atoms.info["charge"], atoms.info["spin"]) == (-1, 2)
    assert isinstance(atoms.info["charge"], int)


def test_molecules_of_qm9_as_published(tmp_path):
    """Of water, molecule 3 of the set; U0 is -76.404702 hartree there."""
    text = (
        "3\ngdb 3\t799.58812\t437.90386\t282.94545\t1.8511\t6.31\t-0.2928\t0.0687\t0.3615\t19.0002\t0.021375\t"
        "-76.404702\t-76.401867\t-76.400922\t-76.422349\t6.002\t\n"
        "O\t-0.0343604951\t 0.9775395708\t 0.0076015923\t-0.589706\n"
        "H\t 0.0647664923\t 0.0205721989\t 0.0015346341\t 0.294853\n"
        "H\t 0.8717903737\t 1.3007924048\t 6.9311*^-7\t 0.294853\n"
        "1671.4222\t3803.6305\t3907.698\nO\tO\t\nInChI=1S/H2O/h1H2\tInChI=1S/H2O/h1H2\n"
    )
    (tmp_path / "a.xyz").write_text(text + text)
    _, record = records_of(tmp_path / "a.xyz")
    assert record.atoms.numbers.tolist() == [8, 1, 1]
    assert record.atoms.positions[2, 2] == pytest.approx(6.9311e-7)
    assert record.fields["U0"] == pytest.approx(-76.404702 * 27.211386, rel=1e-7)
    assert record.fields["smiles"] == "O"
    np.testing.assert_allclose(record.fields["mulliken_charges"], [-0.589706, 0.294853, 0.294853])


def test_json_of_pymatgen_as_a_list_and_as_mptrj(tmp_path):
    crystal = bulk("NaCl", "rocksalt", a=5.64)
    structure = AseAtomsAdaptor.get_structure(crystal)
    record = {"structure": structure.as_dict(), "energy": -1.5}
    for content in ([record], {"mp-22862": {"mp-22862-0-0": record}}, [structure.as_dict()], structure.as_dict()):
        (tmp_path / "a.json").write_text(json.dumps(content))
        (found,) = records_of(tmp_path / "a.json")
        assert found.atoms.numbers.tolist() == crystal.numbers.tolist()
        np.testing.assert_allclose(found.atoms.positions, crystal.positions)
        np.testing.assert_allclose(found.atoms.cell.array, crystal.cell.array)
        assert found.fields.get("group") == ("mp-22862" if "mp-22862" in content else None)
    half = structure.copy()
    half[0] = {"Na": 0.5}
    (tmp_path / "a.json").write_text(json.dumps([half.as_dict(), record, {"energy": 1.0}]))
    partial, good, nothing = read_records([str(tmp_path / "a.json")])
    assert isinstance(good, StructureRecord)
    assert isinstance(partial, Refused)
    assert isinstance(nothing, Refused)
    assert "partly occupied" in partial.reason


def test_vasp_files_and_a_folder_of_runs(tmp_path):
    crystal = bulk("Cu", cubic=True)
    for run in ("a", "b"):
        (tmp_path / run).mkdir()
        for name in ("POSCAR", "CONTCAR"):
            ase.io.write(tmp_path / run / name, crystal, format="vasp")
        crystal = crystal.copy()
        crystal.positions[0] += 0.1
    (tmp_path / "b" / "notes.txt").write_text("no structures")
    with pytest.warns(UserWarning, match=r"left out .*a/POSCAR.*b/notes\.txt"):
        records = list(read_records([str(tmp_path)]))
    assert [record.file for record in records] == [str(tmp_path / run / "CONTCAR") for run in ("a", "b")]


def test_npz_with_units_as_sgdml_states_them(tmp_path):
    water = molecule("H2O")
    arrays = {"z": water.numbers, "R": water.positions[None], "E": np.array([[-23.06]]), "F": np.ones((1, 3, 3))}
    np.savez(tmp_path / "a.npz", **arrays, e_unit="kcal/mol", r_unit="Ang")
    (record,) = records_of(tmp_path / "a.npz")
    kcal = 0.0433641153
    assert record.fields["energy"] == pytest.approx(-23.06 * kcal, rel=1e-6)
    np.testing.assert_allclose(record.fields["forces"], kcal, rtol=1e-6)


def test_lammps_data_has_elements_by_masses_or_is_refused(tmp_path):
    crystal = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    ase.io.write(tmp_path / "a.data", crystal, format="lammps-data", masses=True)
    (atoms,) = read(tmp_path / "a.data")
    assert sorted(atoms.numbers) == sorted(crystal.numbers)
    np.testing.assert_allclose(atoms.cell.lengths(), crystal.cell.lengths())
    ase.io.write(tmp_path / "b.data", crystal, format="lammps-data")
    with pytest.raises(ValueError, match="its types are no elements"):
        read(tmp_path / "b.data")
    (tmp_path / "c.data").write_text(re.sub(r"35\.4\d*", "30.0", (tmp_path / "a.data").read_text()))
    with pytest.raises(ValueError, match="has the mass 30 u, which is of no element"):
        read(tmp_path / "c.data")


@pytest.mark.parametrize("name", ["run.lammpstrj", "run.dump"])
def test_lammps_dumps_have_elements_or_are_refused(tmp_path, name):
    head = "ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n2\nITEM: BOX BOUNDS pp pp pp\n0 5\n0 5\n0 5\n"
    (tmp_path / name).write_text(f"{head}ITEM: ATOMS id type element x y z\n1 1 Na 0 0 0\n2 2 Cl 2.5 0 0\n")
    (atoms,) = read(tmp_path / name)
    assert atoms.get_chemical_symbols() == ["Na", "Cl"]
    (tmp_path / name).write_text(f"{head}ITEM: ATOMS id type x y z\n1 1 0 0 0\n2 2 2.5 0 0\n")
    with pytest.raises(ValueError, match="types and no elements"):
        read(tmp_path / name)


def test_a_format_overrules_the_name(tmp_path):
    (tmp_path / "strange.dat").write_text("CCO ethanol\n")
    assert read(tmp_path / "strange.dat", format="smiles")[0].get_chemical_formula() == "C2H6O"
    with pytest.raises(ValueError, match=r"format.*smiels"):
        read(tmp_path / "strange.dat", format="smiels")


# --- hostile ones ---

V3000 = b"M  V30 BEGIN CTAB\nM  V30 COUNTS 999999999 0 0 0 0\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("count.xyz", b"99999999999\n\nH 0 0 0\n"),
        ("digits.xyz", b"9" * 4000 + b"\n\nH 0 0 0\n"),
        ("columns.xyz", b"1\nProperties=species:S:1:pos:R:3:x:R:2000000000\nH 0 0 0\n"),
        (
            "v3000.sdf",
            b"\n\n\n  0  0  0     0  0            999 V3000\n" + V3000,
        ),
        ("deep.json", b"[" * 100_000),
        ("atoms.data", b"x\n\n999999999 atoms\n\nMasses\n\n1 1.008\n\nAtoms # atomic\n\n1 1 0 0 0\n"),
        ("empty.smi", b""),
        ("empty.npz", b""),
        ("empty.traj", b""),
        ("empty.db", b""),
        ("cut.xyz.gz", gzip.compress(b"1\n\nH 0 0 0\n" * 100, mtime=0)[:-12]),
        ("cut.xyz.xz", lzma.compress(b"1\n\nH 0 0 0\n" * 100)[:-12]),
        ("cut.xyz.bz2", bz2.compress(b"1\n\nH 0 0 0\n" * 100)[:-12]),
        ("noise.sdf.gz", bytes(range(256))),
    ],
)
def test_hostile_files_end_in_one_line(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    start = time.perf_counter()
    with pytest.raises(ValueError, match=re.escape(name)) as caught:
        read(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert time.perf_counter() - start < 5


def test_arrays_that_declare_more_than_there_is_are_refused(tmp_path):
    water = molecule("H2O")
    np.savez(tmp_path / "a.npz", z=water.numbers, R=water.positions[None])
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["R.npy"] = parts["R.npy"].replace(b"(1, 3, 3), }   ", b"(1000, 3, 3), }")
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    with pytest.raises(ValueError, match="more than it has"):
        read(tmp_path / "b.npz")
