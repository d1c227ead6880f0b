"""Converters to and from ASE and pymatgen, structure files, and atomic writes."""

import os
import re
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase.build import bulk, fcc111, molecule
from ase.calculators.emt import EMT
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pymatgen.core import Lattice, Molecule, Structure
from pymatgen.io.ase import AseAtomsAdaptor

from atomsml.graph import AtomicGraph
from atomsml.io import write_atomically

SEEDED = settings(max_examples=50, derandomize=True, deadline=None)
NAMES = st.text("abcdefgh_", min_size=1, max_size=5)
COORDINATES = st.floats(-50, 50, allow_subnormal=False)


def data(rows: tuple[int, ...]) -> st.SearchStrategy[np.ndarray]:
    """Arrays of every kind a graph can hold, with `rows` as their first axis."""
    shapes = st.sampled_from([rows, (*rows, 3), (*rows, 3, 3)])
    kinds = st.sampled_from([np.float64, np.int64, np.bool_])
    return st.tuples(kinds, shapes).flatmap(lambda kind_shape: arrays(*kind_shape))


@st.composite
def ase_systems(draw: st.DrawFn) -> ase.Atoms:
    count = draw(st.integers(0, 6))
    atoms = ase.Atoms(
        numbers=draw(arrays(np.int64, count, elements=st.integers(1, 118))),
        positions=draw(arrays(np.float64, (count, 3), elements=COORDINATES)),
        cell=draw(arrays(np.float64, (3, 3), elements=COORDINATES)),
        pbc=draw(arrays(np.bool_, 3)),
    )
    for name, array in draw(st.dictionaries(NAMES, data((count,)), max_size=3)).items():
        atoms.set_array(name, array)
    atoms.info.update(draw(st.dictionaries(NAMES, st.one_of(data(()), st.integers(-9, 9), st.booleans()), max_size=3)))
    return atoms


@st.composite
def pymatgen_structures(draw: st.DrawFn) -> Structure:
    count = draw(st.integers(1, 5))
    lengths = [draw(st.floats(2, 20)) for _ in range(3)]
    angles = [draw(st.floats(60, 110)) for _ in range(3)]
    pbc = draw(st.sampled_from([(True, True, True), (True, False, True), (False, False, True)]))
    return Structure(
        Lattice.from_parameters(*lengths, *angles, pbc=pbc),
        draw(st.lists(st.sampled_from(["H", "O", "Fe", "U"]), min_size=count, max_size=count)),
        draw(arrays(np.float64, (count, 3), elements=st.floats(-2, 2, allow_subnormal=False))),
        site_properties={
            "magmom": draw(arrays(np.float64, count, elements=COORDINATES)).tolist(),
            "selective_dynamics": draw(arrays(np.bool_, (count, 3))).tolist(),
        },
        properties={
            "pressure": draw(COORDINATES),
            "dipole": draw(arrays(np.float64, 3, elements=COORDINATES)).tolist(),
        },
    )


# --- ASE ---


@SEEDED
@given(ase_systems())
def test_ase_round_trip_loses_nothing(atoms):
    graph = AtomicGraph.from_ase(atoms)
    assert graph.positions.tolist() == atoms.positions.tolist()
    assert graph.numbers.tolist() == atoms.numbers.tolist()
    assert graph.cell.tolist() == [atoms.cell.array.tolist()]
    assert graph.pbc.tolist() == [atoms.pbc.tolist()]
    assert graph.edge_index is None
    back = graph.to_ase()
    assert np.array_equal(back.cell.array, atoms.cell.array)
    assert np.array_equal(back.pbc, atoms.pbc)
    for ours, theirs in ((back.arrays, atoms.arrays), (back.info, atoms.info)):
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            assert np.array_equal(ours[name], value, equal_nan=True)
            assert np.asarray(ours[name]).dtype == np.asarray(value).dtype


def test_ase_properties_keep_their_meaning():
    atoms = molecule("OH")  # comes with a magnetic moment of one electron
    atoms.set_initial_charges([-0.5, 0.5])
    atoms.set_masses([18.0, 2.0])
    atoms.set_tags([3, 4])
    back = AtomicGraph.from_ase(atoms).to_ase()
    assert back.get_initial_magnetic_moments().tolist() == atoms.get_initial_magnetic_moments().tolist()
    assert back.get_initial_magnetic_moments().any()
    assert back.get_initial_charges().tolist() == [-0.5, 0.5]
    assert back.get_masses().tolist() == [18.0, 2.0]
    assert back.get_tags().tolist() == [3, 4]


def test_results_of_a_calculator_are_not_picked_up():
    atoms = bulk("Cu")
    atoms.calc = EMT()
    atoms.get_potential_energy()
    graph = AtomicGraph.from_ase(atoms)
    assert graph.atom_data == {}
    assert graph.system_data == {}


def test_what_no_tensor_can_hold_is_left_behind():
    atoms = molecule("H2O")
    atoms.info.update(name="water", nothing=None, nested={"a": 1}, ragged=[[1], [1, 2]], charge=-1)
    atoms.set_array("labels", np.array(["a", "b", "c"]))
    graph = AtomicGraph.from_ase(atoms)
    assert graph.atom_data == {}
    assert {name: value.tolist() for name, value in graph.system_data.items()} == {"charge": [-1]}


def test_converters_share_no_memory():
    atoms = molecule("H2O")
    atoms.info["field"] = np.ones(3)
    graph = AtomicGraph.from_ase(atoms)
    atoms.positions[0] = 99.0
    atoms.info["field"][0] = 99.0
    assert graph.positions.max() < 10
    assert graph.system_data["field"].tolist() == [[1.0, 1.0, 1.0]]
    back = graph.to_ase()
    back.positions[0] = 99.0
    back.cell[0] = 99.0
    back.info["field"][0] = 99.0
    assert graph.positions.max() < 10
    assert not graph.cell.any()
    assert graph.system_data["field"].tolist() == [[1.0, 1.0, 1.0]]


def test_dtype_of_floating_point_data():
    atoms = molecule("OH")
    graph = AtomicGraph.from_ase(atoms, torch.float32)
    assert graph.dtype == graph.cell.dtype == graph.atom_data["initial_magmoms"].dtype == torch.float32
    assert graph.to_ase().positions.dtype == np.float64


def test_only_one_system_becomes_atoms():
    two = AtomicGraph.from_list([AtomicGraph.from_ase(molecule("H2O"))] * 2)
    for convert in (two.to_ase, two.to_pymatgen):
        with pytest.raises(ValueError, match=r"2 systems; split it with graph\.to_list\(\)"):
            convert()


def test_data_cannot_overwrite_positions():
    graph = AtomicGraph.from_ase(molecule("H2O"))
    with pytest.raises(ValueError, match=r"would overwrite atoms\.positions"):
        graph.replace(atom_data={"positions": torch.zeros(3, 3)}).to_ase()


# --- pymatgen ---


@SEEDED
@given(pymatgen_structures())
def test_pymatgen_structure_round_trip(structure):
    graph = AtomicGraph.from_pymatgen(structure)
    back = graph.to_pymatgen()
    assert isinstance(back, Structure)
    assert back.lattice == structure.lattice
    assert back.lattice.pbc == structure.lattice.pbc
    assert back.species == structure.species
    # fractional -> Cartesian -> fractional: a few roundings of coordinates up to 60 A in cells no thinner than 1 A
    np.testing.assert_allclose(back.frac_coords, structure.frac_coords, atol=1e-13)
    assert back.site_properties == structure.site_properties
    assert back.properties == structure.properties
    np.testing.assert_allclose(graph.positions.numpy(), structure.cart_coords, atol=1e-12)


@pytest.mark.parametrize("atoms", [bulk("NaCl", "rocksalt", a=5.64), bulk("Ti"), fcc111("Cu", (1, 1, 2), vacuum=5.0)])
def test_pymatgen_structure_is_that_of_its_own_adaptor(atoms):
    atoms.arrays.pop("tags", None)
    atoms.info.clear()
    atoms.set_initial_magnetic_moments(np.arange(len(atoms)) + 0.5)
    atoms.set_initial_charges(np.arange(len(atoms)) - 0.5)
    ours, theirs = AtomicGraph.from_ase(atoms).to_pymatgen(), AseAtomsAdaptor.get_structure(atoms)
    assert ours == theirs
    assert ours.lattice.pbc == theirs.lattice.pbc == tuple(atoms.pbc)
    for name in ("magmom", "charge"):
        assert ours.site_properties[name] == pytest.approx(theirs.site_properties[name])


def test_charge_of_a_pymatgen_structure_is_kept():
    structure = Structure(Lattice.cubic(4.2), ["Mg2+", "O2-"], [[0, 0, 0], [0.5] * 3], charge=1)
    with pytest.warns(UserWarning, match="charge"):  # pymatgen's own remark, as the oxidation states say 0
        graph = AtomicGraph.from_pymatgen(structure)
    assert graph.system_data["charge"].tolist() == [1.0]
    assert graph.numbers.tolist() == [12, 8]
    with pytest.warns(UserWarning, match="charge"):
        assert graph.to_pymatgen().charge == 1


@pytest.mark.parametrize(("charge", "multiplicity"), [(0, 2), (1, 1), (1, 3), (-1, 1)])
def test_pymatgen_molecule_round_trip(charge, multiplicity):
    atoms = molecule("OH")
    before = Molecule(atoms.symbols, atoms.positions, charge, multiplicity, site_properties={"spot": [1.5, 2.5]})
    graph = AtomicGraph.from_pymatgen(before)
    assert graph.pbc.tolist() == [[False] * 3]
    assert not graph.cell.any()
    assert graph.system_data["charge"].tolist() == [charge]
    assert graph.system_data["spin_multiplicity"].tolist() == [multiplicity]
    back = graph.to_pymatgen()
    assert isinstance(back, Molecule)
    assert back == before
    assert (back.charge, back.spin_multiplicity) == (charge, multiplicity)
    assert back.site_properties == before.site_properties
    assert back.properties == before.properties


def test_an_open_system_in_a_box_is_a_molecule():
    atoms = molecule("H2O", vacuum=5.0)
    back = AtomicGraph.from_ase(atoms).to_pymatgen()
    assert isinstance(back, Molecule)
    np.testing.assert_array_equal(back.cart_coords, atoms.positions)


@pytest.mark.parametrize(
    ("species", "reason"),
    [({"Fe": 0.5, "Co": 0.5}, "disordered or partly occupied"), ({"Fe": 0.9}, "disordered or partly"), ("Xa", "dummy")],
)
def test_pymatgen_sites_that_are_no_atom_are_refused(species, reason):
    structure = Structure(Lattice.cubic(3.0), ["O", species], [[0, 0, 0], [0.5] * 3])
    with pytest.raises(ValueError, match=rf"^site 1 \(.*\) is .*{reason}.*; .*$"):
        AtomicGraph.from_pymatgen(structure)


def test_a_slab_without_a_third_vector_is_no_pymatgen_structure():
    slab = fcc111("Cu", (1, 1, 2), vacuum=None)
    assert not slab.cell[2].any()
    with pytest.raises(ValueError, match="three independent cell vectors"):
        AtomicGraph.from_ase(slab).to_pymatgen()


# --- atomic writes ---


@pytest.mark.parametrize("name", ["out.traj", "out.xyz", "out.cif", "POSCAR", "out.extxyz"])
def test_formats_follow_the_final_name(tmp_path, name):
    target = tmp_path / "new" / "folder" / name
    write_atomically(target, lambda path: ase.io.write(path, bulk("Cu", cubic=True)))
    assert len(ase.io.read(target)) == 4
    assert os.listdir(target.parent) == [name]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "out.txt"
    target.write_text("old")

    def write(path: Path) -> None:
        path.write_text("half")
        assert target.read_text() == "old"
        raise RuntimeError("disk on fire")

    with pytest.raises(RuntimeError, match="disk on fire"):
        write_atomically(target, write)
    assert os.listdir(tmp_path) == ["out.txt"]
    assert target.read_text() == "old"
    with open(target) as reader:
        write_atomically(target, lambda path: path.write_text("new"))
        assert reader.read() == "old"  # who reads meanwhile sees the whole old file, never a part of the new
    assert target.read_text() == "new"


@pytest.mark.skipif(os.name != "posix", reason="needs limits of the system on files")
def test_a_full_disk_is_told_with_the_file(tmp_path):
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"^cannot write .*out.txt: File too large; make room"):
            write_atomically(tmp_path / "out.txt", lambda path: path.write_bytes(bytes(2000)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir(tmp_path) == []


def test_written_files_get_ordinary_permissions(tmp_path):
    write_atomically(tmp_path / "ours", lambda path: path.write_text("x"))
    (tmp_path / "plain").write_text("x")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_link_keeps_pointing(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_atomically(tmp_path / "link", lambda path: path.write_text("new"))
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_places_that_cannot_be_written_are_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    cases = {"file/out.xyz": "choose another folder", "folder": "exists and is not a file"}
    if os.geteuid() != 0:  # root may write everywhere
        (tmp_path / "locked").mkdir(mode=0o500)
        cases["locked/out.xyz"] = "Permission denied"
    for name, reason in cases.items():
        with pytest.raises(OSError, match=rf"^cannot write {re.escape(str(tmp_path / name))}: .*{reason}"):
            write_atomically(tmp_path / name, lambda path: path.write_text("x"))
    assert (tmp_path / "file").read_text() == "x"
