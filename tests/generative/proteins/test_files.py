"""Reading against gemmi, a reader by others; writing against gemmi, ASE and RDKit."""

from __future__ import annotations

import gzip
import io
import sys
import tarfile
from pathlib import Path

import ase.io
import h5py
import numpy as np
import pytest
from rdkit import Chem

from atomsml.generative.proteins.backbones import Chain
from atomsml.generative.proteins.geometry import ATOMS
from atomsml.generative.proteins.io import read_chains, read_files, store_chains, write_chains
from atomsml.io import Refused

gemmi = pytest.importorskip("gemmi")
DATA = Path(__file__).parents[2] / "data" / "proteins"


def by_gemmi(path: Path, chain: str) -> tuple[list[str], np.ndarray]:
    """Labels and atoms (residues, 4, 3) of the residues of a chain."""
    residues = list(gemmi.read_structure(str(path))[0][chain])
    places = [[residue.sole_atom(name).pos.tolist() for name in ATOMS] for residue in residues]
    return [str(residue.seqid) for residue in residues], np.array(places)


@pytest.fixture
def nasty() -> list[Chain]:
    return read_chains(DATA / "nasty.pdb")


@pytest.mark.parametrize("name", ["1aap", "1brf", "1guu"])
def test_a_chain_is_what_gemmi_reads(name):
    path = DATA / f"{name}.pdb.gz"
    (chain,) = read_chains(path)
    labels, places = by_gemmi(path, "A")
    assert list(chain.labels) == labels
    np.testing.assert_array_equal(chain.coordinates, places)
    assert chain.sequence == gemmi.one_letter_code([r.name for r in gemmi.read_structure(str(path))[0]["A"]])
    assert (chain.name, chain.where) == ("A", str(path))


def test_runs_end_where_an_atom_or_a_residue_is_missing(nasty):
    assert [(chain.name, chain.sequence) for chain in nasty] == [
        ("A", "VREVCSMTA"),  # residue 6 lacks C
        ("A", "TGX"),  # 10 and 11 are missing
        ("A", "AM"),
        ("B", "IS"),  # what is bound, DNA, water and ions are no residues
    ]
    assert nasty[0].labels == ("-1", "0", "1", "2", "3", "3A", "3B", "4", "5")


def test_an_atom_has_one_place_of_the_alternative_with_the_highest_occupancy(nasty):
    alternatives = {"1": "B", "2": "A", "4": "B"}  # 0.4 and 0.6; equal ones; and two residues at one place
    residues = {str(residue.seqid): residue for residue in gemmi.read_structure(str(DATA / "nasty.pdb"))[0]["A"]}
    residues["4"] = next(r for r in gemmi.read_structure(str(DATA / "nasty.pdb"))[0]["A"] if r.name == "THR")
    for label, alternative in alternatives.items():
        expected = [residues[label].find_atom(name, alternative).pos.tolist() for name in ATOMS]
        np.testing.assert_array_equal(nasty[0].coordinates[nasty[0].labels.index(label)], expected)


def test_a_missing_oxygen_stands_where_that_of_the_crystal_stood(nasty):
    (whole,) = read_chains(DATA / "1aap.pdb.gz")
    made, measured = nasty[1].coordinates[1], whole.coordinates[11]
    np.testing.assert_array_equal(made[:3], measured[:3])
    # an angle CA-C=O within 2 degrees and a plane within 6 move O by less than 0.15 A
    assert np.linalg.norm(made[3] - measured[3]) < 0.15


def test_mmcif_says_the_same_as_pdb(nasty):
    for chain, other in zip(nasty, read_chains(DATA / "nasty.cif"), strict=True):
        assert (chain.name, chain.sequence, chain.labels) == (other.name, other.sequence, other.labels)
        np.testing.assert_array_equal(chain.coordinates, other.coordinates)


def test_unsplit_a_chain_shows_its_breaks():
    whole = read_chains(DATA / "nasty.pdb", split=False)
    assert [(chain.name, chain.sequence) for chain in whole] == [("A", "VREVCSMTATGXAM"), ("B", "IS")]


def chains_to_write() -> list[Chain]:
    (chain,) = read_chains(DATA / "1brf.pdb.gz")
    scores = np.linspace(0, 99, len(chain)).round(2)
    return [chain, Chain(-chain.coordinates[:9], "X" * 9, ("-12", *"23456789"), "b", scores[:9])]


@pytest.mark.parametrize("name", ["a.pdb", "a.pdb.gz", "a.cif", "a.cif.gz"])
def test_what_is_written_reads_the_same(tmp_path, name):
    written = chains_to_write()
    write_chains(tmp_path / name, written)
    read = read_chains(tmp_path / name)
    for chain, other in zip(written, read, strict=True):
        assert (chain.name, chain.sequence, chain.labels) == (other.name, other.sequence, other.labels)
        np.testing.assert_array_equal(chain.coordinates, other.coordinates)
    assert [chain.where for chain in read] == [f"{tmp_path / name}, model {number}" for number in (1, 2)]


@pytest.mark.parametrize("name", ["a.pdb", "a.cif.gz"])
def test_others_read_what_is_written(tmp_path, name):
    written = chains_to_write()
    write_chains(tmp_path / name, written)
    models = gemmi.read_structure(str(tmp_path / name))
    for chain, model in zip(written, models, strict=True):
        (found,) = model
        assert found.name == chain.name
        assert tuple(str(residue.seqid) for residue in found) == chain.labels
        places = np.array([[atom.pos.tolist() for atom in residue] for residue in found])
        np.testing.assert_array_equal(places, chain.coordinates)
        scores = np.zeros(len(chain)) if chain.scores is None else chain.scores
        np.testing.assert_allclose([residue[1].b_iso for residue in found], scores, atol=1e-5)  # float32 there
        assert [atom.element.name for atom in found[0]] == ["N", "C", "C", "O"]


def test_ase_and_rdkit_read_the_pdb_that_is_written(tmp_path):
    chain = chains_to_write()[0]
    write_chains(tmp_path / "a.pdb", [chain])
    atoms = ase.io.read(tmp_path / "a.pdb")
    np.testing.assert_array_equal(atoms.positions, chain.coordinates.reshape(-1, 3))
    mol = Chem.MolFromPDBFile(str(tmp_path / "a.pdb"), sanitize=False)
    np.testing.assert_array_equal(mol.GetConformer().GetPositions(), chain.coordinates.reshape(-1, 3))
    # three bonds in each residue, N-CA, CA-C and C=O, and one to the next
    assert mol.GetNumBonds() == 4 * len(chain) - 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"coordinates": np.full((1, 4, 3), 12345.0)}, "does not fit"),
        ({"coordinates": np.full((1, 4, 3), np.nan)}, "does not fit"),
        ({"labels": ("10000",)}, "four digits"),
        ({"name": "AA"}, "one letter"),
        ({"scores": np.array([1e6])}, "does not fit"),
    ],
)
def test_what_does_not_fit_into_the_columns_is_refused(tmp_path, change, message):
    chain = Chain(**{"coordinates": np.zeros((1, 4, 3)), "sequence": "G", "labels": ("1",), **change})
    with pytest.raises(ValueError, match=rf"a\.pdb: .*{message}"):
        write_chains(tmp_path / "a.pdb", [chain])
    assert list(tmp_path.iterdir()) == []


ATOM = "ATOM      1  N   GLY A   1       0.000   0.000   0.000  1.00  0.00           N\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.pdb", "", "no backbone"),
        ("water.pdb", ATOM.replace(" N   GLY", " O   HOH"), "no backbone"),
        ("trace.pdb", ATOM.replace(" N  ", " CA "), "no residue has N, CA and C"),
        ("cut.pdb", "REMARK\n" + ATOM[:50], "line 2 is cut off"),
        ("nan.pdb", ATOM.replace("   0.000   0.000", "   0.000     nan"), "line 1 has a number that is not finite"),
        ("far.pdb", ATOM.replace("   0.000   0.000", "   0.000    1e99"), "line 1 has a number that is not finite"),
        ("zeros.pdb", "".join(ATOM.replace(" N  ", f" {name:3}") for name in ("N", "CA", "C")), "not on one line"),
        ("text.pdb", ATOM.replace("   0.000   0.000", "   0.000   x.000"), "line 1 has no numbers"),
        ("number.pdb", ATOM.replace("A   1 ", "A   ? "), "number of the residue"),
        ("torn.pdb.gz", gzip.compress(ATOM.encode(), mtime=0)[:-9], "check that it is complete"),
        ("text.cif", "this is no CIF", "is no mmCIF"),
        ("empty.cif", "data_a\n", "no backbone"),
        ("a.xyz", ATOM, "is no file of a protein"),
    ],
)
def test_a_bad_file_is_refused_in_a_line(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message) as error:
        read_chains(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_numbers_that_restart_begin_another_chain(tmp_path):
    (chain,) = read_chains(DATA / "1guu.pdb.gz")
    write_chains(tmp_path / "a.pdb", [chain])
    lines = [line for line in (tmp_path / "a.pdb").read_text().splitlines() if line.startswith("ATOM")]
    blank = [line[:21] + " " + line[22:] for line in lines]
    (tmp_path / "twice.pdb").write_text("\n".join([*blank, *blank]))
    first, second = read_chains(tmp_path / "twice.pdb")
    assert first.sequence == second.sequence == chain.sequence


def test_a_folder_and_an_archive_in_it(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.pdb").write_bytes((DATA / "nasty.pdb").read_bytes())
    (tmp_path / "notes.txt").write_text("nothing")
    (tmp_path / ".hidden.pdb").write_text("nothing")
    with tarfile.open(tmp_path / "c.tar.xz", "w:xz") as archive:
        archive.add(DATA / "1guu.pdb.gz", "../../1guu.pdb.gz")  # a name that would leave the folder, were it written
        archive.add(tmp_path / "notes.txt", "dssp/1guu.dssp")
        link = tarfile.TarInfo("link.pdb")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        broken = tarfile.TarInfo("broken.pdb")
        broken.size = 4
        archive.addfile(broken, io.BytesIO(b"ATOM"))
    before = set(tmp_path.rglob("*"))
    with pytest.warns(UserWarning, match=r"left out .*notes\.txt, no structures to read"):
        found = list(read_files([tmp_path]))
    assert set(tmp_path.rglob("*")) == before
    chains, refused = [f for f in found if not isinstance(f, Refused)], [f for f in found if isinstance(f, Refused)]
    assert [[len(chain) for chain in file] for file in chains] == [[50], [9, 3, 2, 2]]
    assert [each.file for each in refused] == [str(tmp_path / "c.tar.xz/broken.pdb")]


def test_a_damaged_archive_gives_what_comes_before_and_says_so(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(DATA / "1guu.pdb.gz", "1guu.pdb.gz")
        archive.add(DATA / "nasty.pdb", "nasty.pdb")
    (tmp_path / "cut.tar").write_bytes((tmp_path / "a.tar").read_bytes()[:8000])
    (chain,), refused = read_files([tmp_path / "cut.tar"])
    assert len(chain) == 50
    assert "cannot be read to its end" in str(refused)


def test_a_name_of_an_archive_that_would_fill_memory_is_refused(tmp_path):
    long = tarfile.TarInfo("././@LongLink")
    long.type, long.size = tarfile.GNUTYPE_LONGNAME, 2**40
    (tmp_path / "a.tar").write_bytes(long.tobuf(tarfile.GNU_FORMAT) + bytes(10_000))
    (refused,) = read_files([tmp_path / "a.tar"])
    assert "a name of 1099511627776 bytes" in str(refused)


def spoilt(path: Path, name: str, value: object) -> None:
    """Put another array in the place of one of a file of chains; without a value, remove it."""
    with h5py.File(path, "r+") as file:
        del file[name]
        if value is not None:
            file[name] = value


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("labels", None, "has no array 'labels'"),
        ("sequence", np.arange(50), "has no array 'sequence' of its kind"),
        ("coordinates", np.zeros((49, 4, 3)), "coordinates must be of shape"),
        ("coordinates", np.full((50, 4, 3), np.nan), "coordinates must be finite"),
        ("offsets", np.array([0, 60]), "must be of shape"),
        ("offsets", np.array([10, 50]), "offsets must ascend from 0"),
        ("name", h5py.SoftLink("/where"), "is a link"),
    ],
)
def test_damaged_hdf5_is_refused_in_a_line(tmp_path, name, value, message):
    path = tmp_path / "a.h5"
    store_chains(path, [read_chains(DATA / "1guu.pdb.gz")])
    spoilt(path, name, value)
    (refused,) = read_files([path])
    assert isinstance(refused, Refused)
    assert message in str(refused)


def test_other_hdf5_in_a_folder_is_left_out(tmp_path):
    store_chains(tmp_path / "a.h5", [read_chains(DATA / "nasty.pdb")])
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["x"] = 1
    with pytest.warns(UserWarning, match=r"left out .*b\.h5"):
        (chains,) = read_files([tmp_path])
    assert [chain.sequence for chain in chains] == ["VREVCSMTA", "TGX", "AM", "IS"]


def test_without_gemmi_mmcif_is_refused_with_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "gemmi", None)
    with pytest.raises(ValueError, match=r"pip install atomsml\[proteins\]"):
        read_chains(DATA / "nasty.cif")
    assert len(read_chains(DATA / "nasty.pdb")) == 4
