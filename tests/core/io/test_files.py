"""Files of structures: every format against the library that reads it, damaged ones, folders and SMILES."""

import re
import struct
import tracemalloc

import ase.io
import numpy as np
import pytest
from ase.build import bulk, fcc111, molecule
from ase.calculators.singlepoint import SinglePointCalculator

from atomsml.graph import AtomicGraph
from atomsml.io import StructureRecord, check_structure, read, read_records


def test_read_structures_takes_files_trajectories_and_smiles(tmp_path):
    frames = [bulk("Cu"), bulk("Cu") * (2, 1, 1)]
    ase.io.write(tmp_path / "a.traj", frames)
    ase.io.write(tmp_path / "b.cif", bulk("NaCl", "rocksalt", a=5.64))
    ase.io.write(tmp_path / "c@d.xyz", molecule("CH3OH"))
    inputs = [str(tmp_path / "a.traj"), "CCO", str(tmp_path / "b.cif"), str(tmp_path / "c@d.xyz")]
    records = list(read_records(inputs))
    assert [(r.file, r.index) for r in records] == [(inputs[0], 0), (inputs[0], 1), *((x, 0) for x in inputs[1:])]
    assert [len(r.atoms) for r in records] == [1, 2, 9, 2, 6]
    assert all(isinstance(r, StructureRecord) for r in records)
    assert records[1].atoms == frames[1]


def test_a_file_comes_before_a_smiles_of_the_same_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ase.io.write("C", molecule("H2O"), format="extxyz")
    (atoms,) = read("C")
    assert atoms.get_chemical_formula() == "H2O"


def test_labels_of_extxyz_stay_with_the_calculator(tmp_path):
    atoms = molecule("H2O")
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=np.ones((3, 3)))
    ase.io.write(tmp_path / "a.xyz", atoms)
    (atoms,) = read(tmp_path / "a.xyz")
    assert atoms.get_potential_energy() == -1.0
    assert AtomicGraph.from_ase(atoms).system_data == {}


def broken(name: str) -> ase.Atoms:
    atoms = bulk("Cu", cubic=True)
    if name == "no atoms":
        return ase.Atoms()
    if name == "NaN":
        atoms.positions[2, 1] = np.nan
    if name == "infinite":
        atoms.positions[2, 1] = np.inf
    if name == "far":
        atoms.positions[2, 1] = 1e300
    if name == "large":
        atoms.cell[0, 0] = -1e300
    if name == "cell":
        atoms.cell[1, 1] = np.nan
    if name == "singular":
        atoms.set_cell(np.outer([1, 2, 3], [1.0, 1.0, 0.0]))
    if name == "flat":
        atoms.set_cell([[3, 0, 0], [3, 1e-8, 0], [0, 0, 3]])
    if name == "zero":
        atoms.cell[2] = 0
    if name == "element":
        atoms.numbers[1] = 0
    if name == "beyond":
        atoms.numbers[1] = 119
    return atoms


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no atoms", "has no atoms"),
        ("NaN", "position of atom 2 is not finite"),
        ("infinite", "position of atom 2 is not finite"),
        ("far", "position of atom 2 is not finite, or beyond 1e.08 A"),
        ("large", "cell is not finite, or beyond 1e.08 A"),
        ("cell", "cell is not finite"),
        ("singular", "periodic, but its cell is singular"),
        ("flat", "periodic, but its cell is singular"),
        ("zero", "periodic, but its cell is singular"),
        ("element", r"atom 1 is of no known element \(X\)"),
        ("beyond", r"atom 1 is of no known element \(119\)"),
    ],
)
def test_structures_without_an_energy_are_refused_with_file_and_frame(tmp_path, name, reason):
    file = str(tmp_path / "bad.traj")
    ase.io.write(file, [bulk("Cu"), broken(name)])
    with pytest.raises(ValueError, match=rf"^{re.escape(file)}, frame 1: .*{reason}.*[;] .*$"):
        read([file])


@pytest.mark.parametrize(
    "atoms",
    [
        fcc111("Cu", (1, 1, 2), vacuum=None),  # a slab needs no third vector
        ase.Atoms("Cu", cell=[2.5, 0, 0], pbc=[True, False, False]),
        ase.Atoms("Cu", cell=[[1e-3, 0, 0], [0, 1e6, 0], [0, 0, 1]], pbc=True),  # lengths do not matter
        ase.Atoms("Cu", cell=[[1, 0, 0], [1, 1e-3, 0], [0, 0, 1]], pbc=True),  # skewed, not singular
        molecule("H2O"),
        bulk("Ti"),
    ],
)
def test_sound_structures_pass(atoms):
    check_structure(atoms, "here")


def test_partly_occupied_cif_is_refused(tmp_path):
    file = tmp_path / "alloy.cif"
    ase.io.write(file, bulk("Cu", cubic=True))
    read([str(file)])
    file.write_text(file.read_text().replace("1.0000", "0.5000"))
    with pytest.raises(ValueError, match=r"alloy\.cif, frame 0: has partly occupied sites"):
        read([str(file)])
    file.write_text(file.read_text().replace("0.5000", "half"))
    with pytest.raises(ValueError, match=r"alloy\.cif, frame 0: has a site whose occupancy is no number"):
        read([str(file)])


TERABYTE = struct.pack("<q", 2**40)


@pytest.mark.parametrize(
    ("sound", "damaged"),
    [
        (b"[[4, 3]", b"[[9999999999, 3]"),
        (b"[[4, 3]", b"[[-4, 3]"),
        (struct.pack("<q", 2), TERABYTE),  # frames
        (struct.pack("<q", 648), TERABYTE),  # where their places are
        (struct.pack("<q", 227), TERABYTE),  # length of the first frame's text
        (struct.pack("<q", 227), struct.pack("<q", -2)),
    ],
)
def test_trajectories_that_declare_more_than_they_hold_are_refused_before_room_is_made(tmp_path, sound, damaged):
    file = tmp_path / "damaged.traj"
    ase.io.write(file, [bulk("Cu", cubic=True)] * 2)
    content = file.read_bytes()
    assert sound in content
    file.write_bytes(content.replace(sound, damaged, 1))
    tracemalloc.start()  # which sees the arrays of numpy, too
    with pytest.raises(ValueError, match=r"damaged\.traj: cannot be read \(ValueError: declares "):
        read(file)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**26


@pytest.mark.parametrize("shape", ["[3, 4294967296]", "[1000000000]", "[-3, 3]", '"long"', "null"])
def test_json_of_ase_that_declares_more_than_it_holds_is_refused(tmp_path, shape):
    file = tmp_path / "damaged.json"
    ase.io.write(file, molecule("H2O"))
    assert read(file)[0] == molecule("H2O")
    file.write_text(
        file.read_text().replace('"positions": {"__ndarray__": [[3, 3]', f'"positions": {{"__ndarray__": [{shape}')
    )
    with pytest.raises(ValueError, match=r"damaged\.json: cannot be read \(.*\); check that it is complete"):
        read(file)


@pytest.mark.parametrize("symbols", ["W\n", ""])  # VASP 5 and 4
@pytest.mark.parametrize("name", ["POSCAR", "XDATCAR"])
def test_poscars_of_more_atoms_than_bytes_are_refused(tmp_path, name, symbols):
    file = tmp_path / name
    head = f"W\n1.0\n3 0 0\n0 3 0\n0 0 3\n{symbols}"
    file.write_text(f"{head}1\nDirect\n0 0 0\n")
    if name == "POSCAR" or symbols:
        assert len(read(file)[0]) == 1
    file.write_text(f"{head}1 2147483647\nDirect\n0 0 0\n")
    with pytest.raises(
        ValueError, match=rf"{name}: cannot be read \(ValueError: declares 214748364[78] atoms, in a file"
    ):
        read(file)


def test_a_reason_that_repeats_a_long_piece_of_the_input_is_shortened(tmp_path):
    file = tmp_path / "long.vasp"
    ase.io.write(file, bulk("W", cubic=True))
    file.write_text(file.read_text().replace("3.1600000000000001", "[" * 70_000, 1))
    with pytest.raises(ValueError, match=r"^[^\n]{0,800}$") as caught:
        read(file)
    assert str(caught.value).startswith(f"{file}: cannot be read (ValueError: ")
    assert str(caught.value).endswith("check that it is complete and of a format that is known")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.xyz", "", "holds no structure"),
        ("truncated.xyz", "3\n\nO 0 0 0\nH 0 0 1\n", "frame 0 is cut off"),
        ("strange.xyz", "1\n\nQq 0 0 0\n", "line 3: 'Qq' is no element"),
        ("unknown.nothing", "some words\n", "UnknownFileTypeError"),
        ("POSCAR", "Cu\n1.0\n3 0 0\n", r"cannot be read \(\w+"),
        ("truncated.cif", "data_image0\n_cell_length_a 3.61\n", "holds no structure"),
        ("words.cif", "", "Empty file"),
    ],
)
def test_unreadable_files_are_refused_in_one_line(tmp_path, name, content, reason):
    file = tmp_path / name
    file.write_text(content)
    with pytest.raises(ValueError, match=rf"^{re.escape(str(file))}(, frame 0)?: .*{reason}.*; .*$") as caught:
        read([str(file)])
    assert "\n" not in str(caught.value)


def test_a_truncated_trajectory_is_refused(tmp_path):
    file = tmp_path / "run.traj"
    ase.io.write(file, [molecule("C6H6")] * 3)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"run\.traj: cannot be read \(\w+: .+\); check that it is complete"):
        read([str(file)])


@pytest.mark.parametrize("text", ["missing.xyz", "runs/missing.traj", "POSCAR", "C1CC", "CC(C)(C)(C)C", ""])
def test_neither_file_nor_molecule(tmp_path, monkeypatch, capfd, text):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        FileNotFoundError, match=rf"^no file '{re.escape(text)}', check the path; nor a molecule: SMILES [^\n]*$"
    ):
        read([text])
    assert capfd.readouterr() == ("", "")  # RDKit reports on stderr unless silenced


def test_a_missing_file_is_found_before_anything_is_read(tmp_path):
    (tmp_path / "broken.xyz").write_text("nonsense")
    with pytest.raises(FileNotFoundError, match=r"missing\.xyz"):
        read([str(tmp_path / "broken.xyz"), "missing.xyz"])
