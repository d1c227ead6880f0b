"""Official MACE files, read without mace or e3nn, give what mace-torch computes.

The files in tests/data/mace, with random weights, and the values beside them were written by mace-torch 0.3.16
(make_golden.py).
"""

import os
import pickletools
import re
import struct
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import ase
import numpy as np
import pytest
import torch

from atomsml import modelfile
from atomsml.graph import AtomicGraph
from atomsml.potential import Potential, evaluate
from atomsml.potentials.mace.checkpoint import convert

ROOT = Path(__file__).parents[3]
DATA = ROOT / "tests" / "data" / "mace"
PEERS = ROOT / ".venv-peers" / "bin" / "python"
HEADS = {
    "multihead": ("surface", "bulk"),
    "mh1": ("omat_pbe", "spice_wB97M", "oc20_usemppbe"),
    "mh1-new": ("omat_pbe", "spice_wB97M", "oc20_usemppbe"),
}
FAMILIES = {"mp0-small", "mp0-medium", "mp0-large", "mp0b", "mpa0", "off23", "deep", *HEADS}
CASES = [(family, head) for family in sorted(FAMILIES) for head in HEADS.get(family, ("Default",))]

Golden = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def golden() -> Golden:
    with np.load(DATA / "golden.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mace")
    with tarfile.open(DATA / "models.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


def structures(golden: Golden) -> dict[str, ase.Atoms]:
    names = [key.removesuffix("/numbers") for key in golden if key.endswith("/numbers")]
    keys = ("numbers", "positions", "cell", "pbc")
    return {name: ase.Atoms(**{key: golden[f"{name}/{key}"] for key in keys}) for name in names}


def assert_agrees(potential: Potential, golden: Golden, case: str, tolerance: float) -> None:
    """Every quantity of every structure, relative to its largest entry."""
    for name, atoms in structures(golden).items():
        periodic = bool(atoms.pbc.any())
        found = evaluate(potential, AtomicGraph.from_ase(atoms), stress=periodic)
        pairs = {"energy": found.energy, "node_energy": found.atom_energies, "forces": found.forces}
        if periodic:
            pairs["stress"] = found.stress[0]
        for quantity, ours in pairs.items():
            theirs = golden[f"{name}/{case}/{quantity}"]
            error = np.abs(ours.numpy() - theirs).max()
            assert error <= tolerance * np.abs(theirs).max(), (name, quantity, error)


def test_the_golden_structures_are_varied(golden: Golden) -> None:
    systems = structures(golden)
    assert {tuple(atoms.pbc) for atoms in systems.values()} == {(True,) * 3, (True, True, False), (False,) * 3}
    assert min(len(atoms) for atoms in systems.values()) == 1
    for family, head in CASES:  # forces that a wrong sign or factor would change
        assert np.abs(golden[f"triclinic/{family}/{head}/forces"]).max() > 0.01


@pytest.mark.parametrize(("family", "head"), CASES)
def test_energies_forces_and_stress_are_those_of_mace(family: str, head: str, models: Path, golden: Golden) -> None:
    potential, metadata = convert(models / f"{family}.model", head=head)
    assert potential.dtype == torch.float64
    assert metadata["head"] == head
    assert_agrees(potential, golden, f"{family}/{head}", 1e-9)


def test_a_converted_file_needs_the_original_no_more(models: Path, golden: Golden, tmp_path: Path) -> None:
    potential, metadata = convert(models / "mpa0.model")
    modelfile.save(potential, tmp_path / "mpa0.safetensors", metadata)
    assert_agrees(modelfile.load(tmp_path / "mpa0.safetensors"), golden, "mpa0/Default", 1e-9)
    about = modelfile.read_metadata(tmp_path / "mpa0.safetensors")
    assert about["kind"] == "converted"
    assert about["elements"] == ["H", "O", "Si"]
    assert about["source"]["file"] == "mpa0.model"


def test_neither_mace_nor_e3nn_is_imported(models: Path) -> None:
    code = (
        "import sys; sys.modules.update(mace=None, e3nn=None)\n"  # importing them now fails
        "from atomsml.potentials.mace.checkpoint import convert\n"
        f"print(convert({str(models / 'off23.model')!r})[0].elements)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "(1, 8, 14)\n"


def test_a_head_is_chosen_where_there_are_several(models: Path) -> None:
    with pytest.raises(ValueError, match=r"multihead\.model: choose one with --head; the file has surface, bulk$"):
        convert(models / "multihead.model")
    with pytest.raises(ValueError, match="there is no head gas; the file has surface, bulk"):
        convert(models / "multihead.model", head="gas")
    with pytest.raises(ValueError, match="there is no head bulk; the file has Default"):
        convert(models / "off23.model", head="bulk")
    surface, bulk = (convert(models / "multihead.model", head=head)[0] for head in ("surface", "bulk"))
    assert not torch.equal(surface.references, bulk.references)


def edited(source: Path, target: Path, entry: str, old: bytes, new: bytes) -> Path:
    """A copy of a file with bytes of one entry replaced."""
    with zipfile.ZipFile(source) as before, zipfile.ZipFile(target, "w") as after:
        for info in before.infolist():
            data = before.read(info)
            if info.filename.endswith(entry):
                assert old in data
                data = data.replace(old, new)
            after.writestr(info.filename, data)
    return target


def test_the_device_of_the_writer_does_not_matter(models: Path, tmp_path: Path) -> None:
    path = edited(models / "mpa0.model", tmp_path / "mps.model", "data.pkl", b"\x03\0\0\0cpu", b"\x03\0\0\0mps")
    expected = convert(models / "mpa0.model")[0].state_dict()
    for name, value in convert(path)[0].state_dict().items():
        assert torch.equal(value, expected[name]), name


BLOCKS = b"mace.modules.blocks\n"


@pytest.mark.parametrize(
    ("family", "old", "new", "message"),
    [
        (
            "off23",
            BLOCKS + b"RealAgnosticI",
            BLOCKS + b"RealAgnosticAttResidualI",
            "the class RealAgnosticAttResidualInteractionBlock",
        ),
        (
            "off23",
            BLOCKS + b"RealAgnosticResidualI",
            BLOCKS + b"RealAgnosticResidualNonLinearI",
            "the interactions RealAgnosticInteractionBlock, RealAgnosticResidualNonLinearInteractionBlock",
        ),
        ("off23", BLOCKS + b"NonLinearR", BLOCKS + b"NonLinearBiasR", "the class NonLinearBiasReadoutBlock"),
        ("off23", b"models\nScaleShiftMACE", b"models\nAtomicDipolesMACE", "the class AtomicDipolesMACE"),
        ("off23", b"radial\nBesselBasis", b"radial\nGaussianBasis", "the class GaussianBasis"),
        ("mpa0", b"radial\nAgnesiTransform", b"radial\nSoftTransform", "the class SoftTransform"),
        ("off23", BLOCKS + b"NonLinearR", BLOCKS + b"LinearR", "the readouts LinearReadoutBlock, LinearReadoutBlock"),
        (
            "off23",
            BLOCKS + b"RealAgnosticI",
            BLOCKS + b"RealAgnosticDensityI",
            "the interactions RealAgnosticDensityInteractionBlock, RealAgnosticResidualInteractionBlock",
        ),
        ("off23", b"nn.functional\nsilu", b"nn.functional\nsigmoid", "an activation other than silu"),
        ("mh1", b"nn.functional\nsigmoid", b"nn.functional\nsilu", "an activation other than sigmoid"),
        ("mh1-new", b"nn.functional\nsigmoid", b"nn.functional\nsilu", "an activation other than sigmoid"),
        ("mh1", b"activation\nSiLU", b"container\nModuleDict", "the class ModuleDict"),
        ("mh1", struct.pack(">d", 1e-5), struct.pack(">d", 1e-6), "another eps in its layer normalisation"),
    ],
)
def test_other_models_are_refused_by_name(
    family: str, old: bytes, new: bytes, message: str, models: Path, tmp_path: Path
) -> None:
    path = edited(models / f"{family}.model", tmp_path / "other.model", "data.pkl", old, new)
    head = HEADS.get(family, ("Default",))[0]
    with pytest.raises(ValueError, match=rf"^{path}: unsupported MACE model: it has {message}[^\n]*$"):
        convert(path, head)


@pytest.mark.parametrize(
    ("family", "option", "now", "message"),
    [
        ("off23", b"apply_cutoff", b"\x88", "a cutoff that acts outside"),
        ("off23", b"use_agnostic_product", b"\x89", "a product that ignores the elements"),
        ("mh1", b"apply_cutoff", b"\x89", "a cutoff that acts inside"),
        ("mh1", b"use_agnostic_product", b"\x88", "a product that knows the elements"),
    ],
)
def test_options_that_change_the_energy_are_refused(
    family: str, option: bytes, now: bytes, message: str, models: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(models / f"{family}.model") as archive:
        data = archive.read(f"{family}/data.pkl")
    # the key, the instruction that memorises it, the value
    (assignment,) = re.findall(option + b"(?:q.|r....)" + now, data, flags=re.DOTALL)
    then = b"\x88" if now == b"\x89" else b"\x89"  # True and False
    path = edited(models / f"{family}.model", tmp_path / "other.model", "data.pkl", assignment, assignment[:-1] + then)
    with pytest.raises(ValueError, match=message):
        convert(path, HEADS.get(family, ("Default",))[0])


def test_a_hostile_file_is_refused_by_name_and_runs_nothing(models: Path, tmp_path: Path) -> None:
    for name in (b"posix\nsystem\n", b"builtins\neval\n", b"torch.serialization\nload\n"):
        path = edited(models / "off23.model", tmp_path / "evil.model", "data.pkl", b"torch.nn.functional\nsilu\n", name)
        asked = name.decode().strip().replace("\n", r"\.")
        with pytest.raises(ValueError, match=rf"refused: the file asks for {asked}, which is not among the \d+ names"):
            convert(path)


def test_a_damaged_file_is_one_line(models: Path, tmp_path: Path) -> None:
    source = models / "mp0-small.model"
    path = tmp_path / "damaged.model"
    torch.save(torch.nn.ModuleList(), path)
    with pytest.raises(ValueError, match="the file's ModuleList has no interactions"):
        convert(path)
    edited(source, path, "data.pkl", b"node_embedding", b"nude_embedding")
    with pytest.raises(ValueError, match="has no node_embedding"):
        convert(path)
    edited(source, path, "data.pkl", b"irreps_in1", b"irreps_in0")
    with pytest.raises(ValueError, match="has no irreps_in1"):
        convert(path)


@pytest.mark.parametrize("family", ["off23", "mh1"])
def test_sizes_that_the_weights_do_not_have_are_refused_before_memory_is_asked_for(
    family: str, models: Path, tmp_path: Path
) -> None:
    """The widths of a radial network stand in a list beside it: of 8192 each they would take a gigabyte."""
    with zipfile.ZipFile(models / f"{family}.model") as archive:
        data = archive.read(f"{family}/data.pkl")
    operations = list(pickletools.genops(data))
    name = next(i for i, (_, argument, _) in enumerate(operations) if argument == "hs")
    first = next(i for i in range(name, len(operations)) if operations[i][1] == 16)
    start, end = operations[first][2], operations[first + 3][2]
    assert [argument for _, argument, _ in operations[first : first + 3]] == [16, 16, 16]
    old, new = data[start - 20 : end], data[start - 20 : start] + 3 * b"M\x00\x20"
    path = edited(models / f"{family}.model", tmp_path / "large.model", "data.pkl", old, new)
    with pytest.raises(ValueError, match=r"large\.model [^\n]*the model would be far larger than its file$"):
        convert(path, HEADS.get(family, ("Default",))[0])


def test_couplings_that_are_not_equivariant_are_refused(models: Path, tmp_path: Path) -> None:
    """The U that is used is the one in the file: a changed entry must be noticed."""
    with zipfile.ZipFile(models / "mp0-small.model") as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
        coupling = next(name for name, size in sizes.items() if size == 16**2 * 4 * 8)  # U of degree 2
        data = archive.read(coupling)
    values = np.frombuffer(data).copy()
    values[4] += 0.1  # the product of a scalar and one component of a vector
    path = edited(models / "mp0-small.model", tmp_path / "u.model", coupling, data, values.tobytes())
    with pytest.raises(ValueError, match="U_matrix_2 for l = 0 is no equivariant polynomial"):
        convert(path)


# Live comparison with mace-torch


def remake(folder: Path, *arguments: str) -> Golden:
    if not PEERS.exists():
        pytest.skip("mace-torch is not installed; run `make peers`")
    script = Path(__file__).with_name("make_golden.py")
    environment = {**os.environ, "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([PEERS, script, folder, *arguments], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with np.load(folder / "golden.npz") as file:
        return dict(file)


@pytest.mark.parametrize("families", [["off23"], pytest.param(sorted(FAMILIES), marks=pytest.mark.slow)])
def test_mace_computes_the_golden_values_again(families: list[str], golden: Golden, tmp_path: Path) -> None:
    again = remake(tmp_path, *families)
    assert {key.split("/")[1] for key in again if key.endswith("/energy")} == set(families)
    for key, value in again.items():
        np.testing.assert_allclose(value, golden[key], rtol=1e-9, atol=1e-11, err_msg=key)


@pytest.mark.slow
def test_a_float32_file_agrees_to_its_own_precision(tmp_path: Path) -> None:
    """Its couplings and Bessel frequencies are rounded to float32, 6e-8 each; ours are exact. Fifty may add up."""
    golden = remake(tmp_path, "float32")
    potential, metadata = convert(tmp_path / "float32.model")
    assert metadata["source"]["dtype"] == "float32"
    assert_agrees(potential, golden, "float32/Default", 3e-6)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["mp0b2-small", "mp0b2-large", "off24"])
def test_other_sizes_of_the_same_blocks(family: str, tmp_path: Path) -> None:
    golden = remake(tmp_path, family)
    assert_agrees(convert(tmp_path / f"{family}.model")[0], golden, f"{family}/Default", 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "channels"), [("mp0-medium", 128), ("mp0b", 128), ("mpa0", 128), ("off23", 128), ("mh1", 512)]
)
def test_models_of_the_published_size(family: str, channels: int, tmp_path: Path) -> None:
    golden = remake(tmp_path, family, "--full")
    for head in HEADS.get(family, ("Default",)):
        potential, _ = convert(tmp_path / f"{family}.model", head)
        assert potential.config.channels == channels
        assert_agrees(potential, golden, f"{family}/{head}", 1e-9)
