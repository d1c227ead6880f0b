"""Every format gives the same structures, and broken files give one clear line."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import ase
import ase.db
import ase.io
import h5py
import numpy as np
import pytest
from ase import units
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from pymatgen.core import Structure
from pymatgen.entries.computed_entries import ComputedStructureEntry
from pymatgen.io.ase import AseAtomsAdaptor

from atomsml.dataset import Dataset, LabelKeys, read_dataset
from atomsml.io import Refused


def assert_holds(dataset: Dataset, frames: list[ase.Atoms], tolerance: float = 1e-8) -> None:
    assert len(dataset) == len(frames)
    for graph, atoms in zip(dataset, frames, strict=True):
        np.testing.assert_array_equal(graph.numbers, atoms.numbers)
        np.testing.assert_allclose(graph.positions, atoms.positions, atol=tolerance)
        np.testing.assert_allclose(graph.cell[0], atoms.cell.array, atol=tolerance)
        np.testing.assert_array_equal(graph.pbc[0], atoms.pbc)
        assert graph.system_data["energy"].item() == pytest.approx(atoms.info["REF_energy"], abs=tolerance)
        np.testing.assert_allclose(graph.atom_data["forces"], atoms.arrays["REF_forces"], atol=tolerance)
        stress = atoms.info.get("REF_stress", np.full((3, 3), np.nan))
        np.testing.assert_allclose(graph.system_data["stress"][0], stress, atol=tolerance)
    assert dataset.config_types.tolist() == [atoms.info["config_type"] for atoms in frames]
    assert dataset.groups.tolist() == [atoms.info["group"] for atoms in frames]


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [("", lambda b: b), (".gz", gzip.compress), (".xz", lzma.compress)],
    ids=["plain", "gz", "xz"],
)
def test_extxyz(extxyz: Path, frames: list[ase.Atoms], suffix: str, compress: Callable[[bytes], bytes]) -> None:
    path = extxyz.with_name(f"copy.xyz{suffix}")
    path.write_bytes(compress(extxyz.read_bytes()))
    dataset = read_dataset(path)
    assert_holds(dataset, frames)
    assert dataset.label_counts() == {"energy": 16, "forces": 16, "stress": 4}
    assert dataset.found[0].keys == LabelKeys(
        "REF_energy", "REF_forces", "REF_stress", config_type="config_type", group="group"
    )
    assert dataset.found[0].fields["REF_stress"] == 4
    assert "  stress = REF_stress, on 4 of 16" in dataset.found[0].lines()


def test_extxyz_with_results_of_an_ase_calculator(tmp_path: Path) -> None:
    crystal = bulk("Cu", cubic=True)
    crystal.rattle(0.1, seed=1)
    crystal.calc = EMT()
    energy, forces, stress = crystal.get_potential_energy(), crystal.get_forces(), crystal.get_stress(voigt=False)
    ase.io.write(tmp_path / "emt.xyz", crystal, format="extxyz")
    graph = read_dataset(tmp_path / "emt.xyz")[0]
    assert graph.system_data["energy"].item() == pytest.approx(energy)
    np.testing.assert_allclose(graph.atom_data["forces"], forces, atol=1e-8)
    np.testing.assert_allclose(graph.system_data["stress"][0], stress, atol=1e-8)


def test_extxyz_with_a_voigt_stress_or_a_virial(tmp_path: Path) -> None:
    def with_label(text: str) -> np.ndarray:
        frame = f'1\nLattice="2 0 0 0 3 0 0 0 4" energy=-1 {text}\nCu 0 0 0\n'
        (tmp_path / "one.xyz").write_text(frame)
        return read_dataset(tmp_path / "one.xyz")[0].system_data["stress"][0].numpy()

    matrix = [[1.0, 6.0, 5.0], [6.0, 2.0, 4.0], [5.0, 4.0, 3.0]]
    np.testing.assert_array_equal(with_label('stress="1 2 3 4 5 6"'), matrix)
    np.testing.assert_array_equal(with_label('stress="1 6 5 6 2 4 5 4 3"'), matrix)
    np.testing.assert_allclose(with_label('virial="-24 -144 -120 -144 -48 -96 -120 -96 -72"'), matrix)


def test_missing_labels_are_nan_and_counted(tmp_path: Path, frames: list[ase.Atoms]) -> None:
    del frames[0].arrays["REF_forces"], frames[1].info["REF_energy"]
    frames[2].arrays["REF_forces"][0] = np.nan
    ase.io.write(tmp_path / "some.xyz", frames, format="extxyz")
    dataset = read_dataset(tmp_path / "some.xyz")
    assert dataset.label_counts() == {"energy": 15, "forces": 15, "stress": 4}
    assert dataset[0].atom_data["forces"].isnan().all()
    assert dataset[0].atom_data["forces"].shape == (dataset.num_atoms[0], 3)
    assert dataset[1].system_data["energy"].isnan().all()
    assert dataset[2].atom_data["forces"].isnan().sum() == 3


def test_energy_only(tmp_path: Path) -> None:
    (tmp_path / "one.xyz").write_text("1\nenergy=-1.5\nH 0 0 0\n\n1\nenergy=-2.5\nO 0 0 0\n")
    dataset = read_dataset(tmp_path / "one.xyz")
    assert dataset.energy.tolist() == [-1.5, -2.5]  # an empty line between frames hides nothing
    assert dataset.label_counts() == {"energy": 2, "forces": 0, "stress": 0}
    assert dataset.found[0].lines()[-1] == "  without forces, stress"


def test_ase_database(tmp_path: Path, frames: list[ase.Atoms]) -> None:
    with ase.db.connect(tmp_path / "set.db") as database:
        for atoms in frames:
            results = {"energy": atoms.info["REF_energy"], "forces": atoms.arrays["REF_forces"]}
            if "REF_stress" in atoms.info:
                results["stress"] = atoms.info["REF_stress"].flat[[0, 4, 8, 5, 2, 1]]
            row = ase.Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
            row.calc = SinglePointCalculator(row, **results)
            database.write(row, config_type=atoms.info["config_type"], group=atoms.info["group"])
    assert_holds(read_dataset(tmp_path / "set.db"), frames)


def test_ase_database_with_labels_under_data(tmp_path: Path) -> None:
    water = molecule("H2O")
    with ase.db.connect(tmp_path / "set.db") as database:
        database.write(water, data={"energy": np.array([-14.0]), "forces": np.ones((3, 3))})
    graph = read_dataset(tmp_path / "set.db")[0]
    assert graph.system_data["energy"].item() == -14.0
    np.testing.assert_array_equal(graph.atom_data["forces"], np.ones((3, 3)))


@pytest.mark.parametrize("suffix", [".json", ".json.gz"])
def test_pymatgen_records(tmp_path: Path, frames: list[ase.Atoms], suffix: str) -> None:
    crystals = frames[12:]
    records = [
        {
            "structure": AseAtomsAdaptor.get_structure(
                ase.Atoms(a.numbers, a.positions, cell=a.cell, pbc=True)
            ).as_dict(),
            "energy": a.info["REF_energy"],
            "forces": a.arrays["REF_forces"].tolist(),
            "stress": a.info["REF_stress"].tolist(),
            "config_type": "crystal",
            "mp_id": a.info["group"],
        }
        for a in crystals
    ]
    text = json.dumps(records).encode()
    path = tmp_path / f"set{suffix}"
    path.write_bytes(gzip.compress(text) if suffix.endswith("gz") else text)
    assert_holds(read_dataset(path), crystals)


def test_pymatgen_entries(tmp_path: Path) -> None:
    salt = Structure.from_spacegroup("Fm-3m", np.eye(3) * 5.6, ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    salt.add_site_property("forces", np.arange(24.0).reshape(8, 3).tolist())
    entry = ComputedStructureEntry(salt, -27.2, correction=-1.0, data={"group": "salt"})
    (tmp_path / "entries.json").write_text(json.dumps([entry.as_dict()]))
    dataset = read_dataset(tmp_path / "entries.json")
    assert dataset.energy.tolist() == [-27.2]
    assert dataset.groups.tolist() == ["salt"]
    np.testing.assert_array_equal(dataset[0].atom_data["forces"], np.arange(24.0).reshape(8, 3))
    assert dataset.elements == (11, 17)


def write_plain(path: Path, frames: list[ase.Atoms], **changes: object) -> None:
    arrays: dict[str, object] = {
        "offsets": np.cumsum([0] + [len(a) for a in frames]),
        "numbers": np.concatenate([a.numbers for a in frames]).astype(np.uint8),
        "positions": np.concatenate([a.positions for a in frames]),
        "forces": np.concatenate([a.arrays["REF_forces"] for a in frames]),
        "energy": [a.info["REF_energy"] for a in frames],
        "stress": [a.info.get("REF_stress", np.full((3, 3), np.nan)) for a in frames],
        "cell": [a.cell.array for a in frames],
        "pbc": [a.pbc for a in frames],
        "tag": [a.info["config_type"] for a in frames],
        "smiles": [a.info["group"] for a in frames],
    }
    with h5py.File(path, "w") as file:
        for name, values in {**arrays, **changes}.items():
            if values is not None:
                file[name] = values


def test_plain_hdf5(tmp_path: Path, frames: list[ase.Atoms]) -> None:
    write_plain(tmp_path / "set.h5", frames)
    dataset = read_dataset(tmp_path / "set.h5")
    assert_holds(dataset, frames, tolerance=0)
    assert (dataset.found[0].keys.config_type, dataset.found[0].keys.group) == ("tag", "smiles")


def test_plain_hdf5_of_open_molecules(tmp_path: Path, frames: list[ase.Atoms]) -> None:
    write_plain(tmp_path / "set.hdf5", frames[:12], cell=None, pbc=None, stress=None, forces=None)
    dataset = read_dataset(tmp_path / "set.hdf5")
    assert not any(graph.pbc.any() for graph in dataset)
    assert dataset.label_counts() == {"energy": 12, "forces": 0, "stress": 0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"offsets": [0, 3, 2]}, "offsets must ascend"),
        ({"offsets": np.zeros(0, np.int64)}, "offsets must ascend"),
        ({"offsets": np.array([0.0, 64.0])}, "offsets must be an array of integers, got float64"),
        ({"numbers": np.full(64, 300)}, "structure 0 .* an atom of no known element"),
        ({"numbers": np.full(64, -1)}, "structure 0 .* an atom of no known element"),
        ({"positions": np.full((64, 3), 1e300)}, "structure 0 .* a position that is not finite, or beyond 1e.08 A"),
        ({"energy": np.full(16, np.inf)}, "structure 0 .* an energy beyond 1e.12 eV"),
        ({"forces": np.full((64, 3), -1e300)}, "structure 0 .* a force beyond 1e.12 eV/A"),
        ({"stress": np.full((16, 3, 3), 1e300)}, "structure 0 .* a stress beyond 1e.12 eV/A.3"),
        ({"numbers": None}, "no array 'numbers'"),
        ({"positions": np.zeros((4, 3))}, "positions must have shape"),
        ({"forces": np.zeros((62, 2))}, "forces must have shape"),
        ({"energy": np.zeros((16, 2))}, "energy must have shape"),
        ({"pbc": np.ones((16, 2))}, "pbc must have shape"),
        ({"energy": None, "forces": None}, r"no energy .* tag \(16\)"),
    ],
)
def test_plain_hdf5_that_is_ragged(
    tmp_path: Path, frames: list[ase.Atoms], changes: dict[str, object], message: str
) -> None:
    write_plain(tmp_path / "set.h5", frames, **changes)
    with pytest.raises(ValueError, match=message):
        read_dataset(tmp_path / "set.h5")


H = "H 0 0 0\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.xyz", b"", "holds no structure"),
        ("empty.h5", b"", "cannot be read as HDF5"),
        ("empty.json", b"", "is not JSON"),
        ("empty.xyz.xz", b"", "cannot be read|holds no structure"),
        ("list.json", b"[]", "holds no structure"),
        ("object.json", b"{}", "holds no structure"),
        ("bare.json", b'[{"energy": 1}]', "frame 0: .*has no pymatgen structure"),
        ("broken.json", b'[{"energy": 1, "structure": {}}]', "frame 0: cannot be read"),
        ("garbage.xyz", bytes(range(256)), "cannot be read|expected the number of atoms"),
        ("garbage.xyz.gz", bytes(range(256)), "cannot be read"),
        ("garbage.h5", bytes(range(256)), "cannot be read as HDF5"),
        ("garbage.db", bytes(range(256)) * 8, "cannot be read as an ASE database"),
        ("cut.xyz", f"2\nenergy=1\n{H}".encode(), "frame 0 is cut off"),
        ("none.xyz", b"0\nenergy=1\n", "frame 0: has no atoms"),
        ("unknown.xyz", b"1\nenergy=1\nQq 0 0 0\n", "frame 0: cannot be read"),
        ("dummy.xyz", b"1\nenergy=1\nX 0 0 0\n", "frame 0: atom 0 is of no known element"),
        (
            "nan.xyz",
            f"1\nenergy=1\n{H}1\nenergy=1\nH 0 0 nan\n".encode(),
            "frame 1: the position of atom 0 is not finite",
        ),
        ("infinite.xyz", f"1\nenergy=inf\n{H}".encode(), "frame 0: energy beyond 1e.12"),
        ("huge.xyz", f"1\nenergy=-1e300\n{H}".encode(), "frame 0: energy beyond 1e.12"),
        ("flat.xyz", f'1\nLattice="1 0 0 0 1 0 1 1 0" energy=1\n{H}'.encode(), "cell is singular"),
        ("text.xyz", f"1\nenergy=low\n{H}".encode(), "frame 0: energy: must hold numbers"),
        ("word.xyz", f"1\nenergy\n{H}".encode(), "frame 0: energy: must hold numbers, got a word without"),
        ("two.xyz", f'1\nenergy="1 2"\n{H}'.encode(), "an energy must be one number"),
        ("column.xyz", b"1\nProperties=species:S:1:pos:R:3:forces:R:2 energy=1\nH 0 0 0 1 1\n", "forces of 1 atoms"),
        ("structure.cif", b"data_", "holds no structure"),
        ("nothing", b"data_", "cannot be read .UnknownFileTypeError"),
    ],
)
def test_broken_files_give_one_line_that_names_them(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_dataset(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_a_key_of_one_structure_is_counted(tmp_path: Path) -> None:
    (tmp_path / "one.xyz").write_text(f"1\nenergy=1 config_type=a\n{H}")
    assert "  config_type = config_type, on 1 of 1" in read_dataset(tmp_path / "one.xyz").found[0].lines()


def test_a_missing_file_is_not_made(tmp_path: Path) -> None:
    for name in ("none.db", "none.xyz", "none.h5"):
        with pytest.raises(FileNotFoundError, match=name):
            read_dataset(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_frames_of_every_kind_in_one_file(tmp_path: Path, frames: list[ase.Atoms]) -> None:
    """Long files are converted in blocks; labels that appear late are found all the same."""
    many = [frames[i % 12].copy() for i in range(1050)]
    late = frames[13]
    ase.io.write(tmp_path / "long.xyz", [*many, late], format="extxyz")
    dataset = read_dataset(tmp_path / "long.xyz")
    assert dataset.label_counts() == {"energy": 1051, "forces": 1051, "stress": 1}
    np.testing.assert_allclose(dataset[1050].system_data["stress"][0], late.info["REF_stress"], atol=1e-8)


def frame(comment: str) -> str:
    return f'1\nLattice="9 0 0 0 9 0 0 0 9" {comment}\nH 0 0 0\n'


def test_labels_under_two_keys_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "set.xyz"
    path.write_text(3 * frame("REF_energy=-1 energy=-2") + 2 * frame("energy=-2"))
    (found,) = read_dataset(path).found
    assert "  energy = REF_energy, on 3 of 5" in found.lines()
    assert "  not used: energy (on 5)" in found.lines()
    (warning,) = found.warnings
    assert warning.startswith("2 structures without REF_energy carry energy, which is not used")
    (given,) = read_dataset(path, LabelKeys(energy="energy")).found
    assert given.warnings == ()
    assert given.fields["energy"] == 5


@pytest.mark.parametrize(("suffix", "value"), [(".xyz", np.nan), (".db", np.nan), (".h5", np.nan)])
def test_nan_is_no_label(tmp_path: Path, frames: list[ase.Atoms], suffix: str, value: float) -> None:
    for atoms in frames[:6]:
        atoms.info["REF_energy"] = value
        atoms.arrays["REF_forces"][:] = value
    path = tmp_path / f"set{suffix}"
    if suffix == ".h5":
        energy = np.array([atoms.info["REF_energy"] for atoms in frames])
        forces = np.concatenate([atoms.arrays["REF_forces"] for atoms in frames])
        write_plain(path, frames, energy=energy, forces=forces)
    elif suffix == ".db":
        with ase.db.connect(path) as database:
            for atoms in frames:
                database.write(atoms, data={"energy": atoms.info["REF_energy"], "forces": atoms.arrays["REF_forces"]})
    else:
        ase.io.write(path, frames, format="extxyz")
    (found,) = read_dataset(path).found
    assert [line.split(", ")[-1] for line in found.lines()[1:3]] == ["on 10 of 16", "on 10 of 16"]


def test_a_stress_without_a_cell_is_not_counted(tmp_path: Path) -> None:
    path = tmp_path / "set.xyz"
    stress = 'energy=-1 stress="1 0 0 0 1 0 0 0 1"'
    path.write_text(frame(stress) + frame(f'{stress} pbc="F F F"') + f"1\n{stress}\nH 0 0 0\n")
    dataset = read_dataset(path)
    assert dataset.label_counts() == {"energy": 3, "forces": 0, "stress": 1}
    (found,) = dataset.found
    assert "  stress = stress, on 1 of 3" in found.lines()
    assert found.warnings[0].startswith("on 2 of 3 structures stress is not used")


def test_free_energies_that_differ_are_mentioned(tmp_path: Path) -> None:
    path = tmp_path / "set.xyz"
    path.write_text(frame("energy=-1 free_energy=-1.25") + frame("energy=-1 free_energy=-1") + frame("energy=-1"))
    (found,) = read_dataset(path).found
    (warning,) = found.warnings
    assert "on 1 structures energy and free_energy differ, by up to 0.25 eV" in warning
    (free,) = read_dataset(path, LabelKeys(energy="free_energy")).found
    assert free.fields["free_energy"] == 2
    assert [warning.partition(",")[0] for warning in free.warnings] == ["1 structures without free_energy carry energy"]


PACKED: dict[str, Callable[[bytes], bytes]] = {".bz2": bz2.compress, ".gz": gzip.compress}


@pytest.mark.parametrize("name", ["a.traj", "a.json", "a.extxyz.bz2", "a.traj.gz", "a.db", "a.npz"])
def test_every_format_that_carries_labels_gives_the_same_dataset(tmp_path: Path, name: str) -> None:
    """One set of structures, written by ASE or NumPy in the ways in which people keep labels."""
    rng = np.random.default_rng(0)
    images = [molecule("CH3OH") for _ in range(3)]
    for atoms in images:
        atoms.rattle(0.05, rng=rng)
        atoms.calc = SinglePointCalculator(atoms, energy=float(rng.normal()), forces=rng.normal(size=(6, 3)))
    path = tmp_path / name
    plain = path if path.suffix not in PACKED else path.with_suffix("")
    if name == "a.npz":
        arrays = {"R": [atoms.positions for atoms in images], "z": images[0].numbers}
        energies = [[atoms.get_potential_energy()] for atoms in images]
        np.savez(path, E=energies, F=[atoms.get_forces() for atoms in images], **arrays)
    else:
        ase.io.write(plain, images)
    if plain != path:
        path.write_bytes(PACKED[path.suffix](plain.read_bytes()))
    columns = read_dataset(path).columns(np.arange(3))
    np.testing.assert_array_equal(columns.numbers, np.concatenate([atoms.numbers for atoms in images]))
    places, forces = (np.concatenate([f(a) for a in images]) for f in (ase.Atoms.get_positions, ase.Atoms.get_forces))
    np.testing.assert_allclose(columns.positions, places, rtol=0, atol=1e-8)  # extxyz has 8 decimals
    np.testing.assert_allclose(columns.forces, forces, rtol=0, atol=1e-8)
    np.testing.assert_allclose(columns.energy, [atoms.get_potential_energy() for atoms in images], rtol=0, atol=1e-8)


def test_a_folder_is_its_files(tmp_path: Path) -> None:
    for name, energy in (("b.extxyz", 2.0), ("a.traj", 1.0)):
        atoms = molecule("H2O")
        atoms.calc = SinglePointCalculator(atoms, energy=energy)
        ase.io.write(tmp_path / name, atoms)
    assert read_dataset(tmp_path).energy.tolist() == [1.0, 2.0]


def test_units_that_a_database_of_schnetpack_states_are_obeyed(tmp_path: Path) -> None:
    """In the layout of `ASEAtomsData` of SchNetPack: labels in row.data, units in the metadata."""
    atoms = molecule("H2O")
    forces = np.arange(9.0).reshape(3, 3)
    with ase.db.connect(tmp_path / "qm.db") as database:
        stored = atoms.copy()
        stored.positions /= units.Bohr
        database.write(stored, data={"energy": np.array([-23.06]), "forces": forces, "B": np.array([3.0])})
        database.metadata = {
            "_property_unit_dict": {"energy": "kcal/mol", "forces": "kcal/mol/Bohr", "B": "GHz"},
            "_distance_unit": "Bohr",
        }
    columns = read_dataset(tmp_path / "qm.db").columns(np.arange(1))
    np.testing.assert_allclose(columns.energy, -23.06 * units.kcal / units.mol)
    np.testing.assert_allclose(columns.forces, forces * units.kcal / units.mol / units.Bohr)
    np.testing.assert_allclose(columns.positions, atoms.positions)
    with ase.db.connect(tmp_path / "qm.db") as database:
        database.metadata = {"_property_unit_dict": {"energy": "furlong"}, "_distance_unit": "Ang"}
    with pytest.raises(ValueError, match="energy has the unit 'furlong', which is not known"):
        read_dataset(tmp_path / "qm.db")


def test_units_that_a_comment_line_states_are_obeyed(tmp_path: Path) -> None:
    line = "energy_unit=Hartree forces_unit=Hartree/Bohr length_unit=Bohr energy=-1 "
    frame = f"1\n{line}Properties=species:S:1:pos:R:3:forces:R:3\nH 1 0 0 1 0 0\n"
    (tmp_path / "a.xyz").write_text(frame)
    columns = read_dataset(tmp_path / "a.xyz").columns(np.arange(1))
    np.testing.assert_allclose(columns.energy, [-units.Hartree])
    np.testing.assert_allclose(columns.forces, [[units.Hartree / units.Bohr, 0, 0]])
    np.testing.assert_allclose(columns.positions, [[units.Bohr, 0, 0]])
    for said, reason in (("units=Hartree", "not of what"), ("energy_unit=kcal/mol", "but not of forces")):
        (tmp_path / "a.xyz").write_text(frame.replace(line, f"{said} energy=-1 "))
        with pytest.raises(ValueError, match=reason):
            read_dataset(tmp_path / "a.xyz")


def test_structures_that_cannot_be_used_are_listed_and_the_others_read(tmp_path: Path) -> None:
    path = tmp_path / "set.xyz"
    rows = ["energy=1\nQq 0 0 0", "energy\nH 0 0 0", "energy=inf\nH 0 0 0", "energy=1\nH 0 0 nan"]
    path.write_text("".join(f"1\n{text}\n" + frame("energy=-2") for text in rows) + "9\nenergy=1\nH 0 0 0\n")
    refused: list[Refused] = []
    dataset = read_dataset(path, refused=refused)
    assert dataset.energy.tolist() == [-2.0] * 4
    assert [each.index for each in refused] == [0, 2, 4, 6, None]
    assert dataset.found[0].lines()[:2] == [f"{path}: 4 structures (extxyz)", "  energy = energy, on 4 of 4"]
    with pytest.raises(ValueError, match=r"set\.xyz, frame 0: cannot be read"):
        read_dataset(path)
    path.write_text(f"1\n{rows[0]}\n")
    with pytest.raises(ValueError, match="frame 0: cannot be read"):
        read_dataset(path, refused=[])
