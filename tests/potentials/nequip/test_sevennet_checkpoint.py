"""SevenNet checkpoints, read without sevenn or e3nn, give what sevenn computes.

The files in tests/data/sevennet, with random weights, and the values beside them were written by sevenn 0.13.0
(make_sevennet_golden.py).
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import ase
import numpy as np
import pytest
import torch

from atomsml import modelfile
from atomsml.graph import AtomicGraph
from atomsml.potential import Potential, evaluate
from atomsml.potentials.nequip.sevennet_checkpoint import convert

ROOT = Path(__file__).parents[3]
DATA = ROOT / "tests" / "data" / "sevennet"
SEVENN = ROOT / ".venv-sevenn" / "bin" / "python"
MODELS = (("graded", ""), ("nequip", ""), ("solid", ""), ("modal", "R2SCAN"), ("modal", "PBE"))

Golden = dict[str, np.ndarray]


def read(path: Path) -> Golden:
    with np.load(path) as file:
        return dict(file)


def assert_agrees(potential: Potential, golden: Golden, case: str, tolerances: dict[str, float]) -> None:
    """Every quantity of every structure, relative to its largest entry."""
    names = [key.removesuffix("/numbers") for key in golden if key.endswith("/numbers")]
    for name in names:
        atoms = ase.Atoms(**{key: golden[f"{name}/{key}"] for key in ("numbers", "positions", "cell", "pbc")})
        periodic = bool(atoms.pbc.any())
        graph = AtomicGraph.from_ase(atoms).to(dtype=potential.dtype)
        found = evaluate(potential, graph, stress=periodic)
        pairs = {"energy": found.energy, "node_energy": found.atom_energies, "forces": found.forces}
        if periodic:
            pairs["stress"] = found.stress[0]
        for quantity, ours in pairs.items():
            theirs = golden[f"{name}/{case}/{quantity}"]
            error = np.abs(ours.numpy() - theirs).max() / np.abs(theirs).max()
            assert error <= tolerances.get(quantity, tolerances["energy"]), (name, quantity, error)


@pytest.mark.parametrize(("name", "modality"), MODELS)
def test_energies_forces_and_stress_are_those_of_sevenn(name: str, modality: str) -> None:
    potential, metadata = convert(DATA / f"{name}.pth", modality or None)
    assert potential.dtype == torch.float64
    assert metadata["source"]["file"] == f"{name}.pth"
    assert metadata["head"] == (modality or "default")
    golden, case = read(DATA / "golden.npz"), f"{name}/{modality}".strip("/")
    assert np.abs(golden[f"triclinic/{case}/forces"]).max() > 0.01  # which a wrong sign or factor would change
    assert_agrees(potential, golden, case, {"energy": 1e-9})


def test_a_modality_is_chosen_where_there_are_several() -> None:
    with pytest.raises(ValueError, match=r"modal\.pth: choose one with --head; the file has R2SCAN, PBE$"):
        convert(DATA / "modal.pth")
    with pytest.raises(ValueError, match="there is no head PBEsol; the file has R2SCAN, PBE"):
        convert(DATA / "modal.pth", "PBEsol")
    with pytest.raises(ValueError, match="there is no head PBE; the file has default"):
        convert(DATA / "graded.pth", "PBE")


@pytest.mark.parametrize("off", ["node_embedding", "self_inter_intro", "self_inter_outro", "output_block"])
def test_a_modality_enters_only_where_the_settings_say_so(off: str, tmp_path: Path) -> None:
    """The rows of a map that it enters are part of the file's tensor: without them the map has one row set less."""
    content: dict[str, Any] = torch.load(DATA / "modal.pth", weights_only=False)  # made by this project
    content["config"][f"use_modal_{off}"] = False
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="damaged and cannot be read as a SevenNet checkpoint"):
        convert(tmp_path / "other.pth", "PBE")


def test_modalities_at_impossible_places_are_refused(tmp_path: Path) -> None:
    content: dict[str, Any] = torch.load(DATA / "modal.pth", weights_only=False)  # made by this project
    for places in ({"R2SCAN": 0, "PBE": 7}, {"R2SCAN": 0, "PBE": -1}, {}):
        content["config"]["_modal_map"] = places
        torch.save(content, tmp_path / "other.pth")
        with pytest.raises(ValueError, match=r"other\.pth[^\n]*$"):
            convert(tmp_path / "other.pth", "PBE")


def test_a_converted_file_needs_the_original_no_more(tmp_path: Path) -> None:
    path = tmp_path / "graded.safetensors"
    potential, metadata = convert(DATA / "graded.pth")
    modelfile.save(potential, path, metadata)
    assert_agrees(modelfile.load(path), read(DATA / "golden.npz"), "graded", {"energy": 1e-9})
    about = modelfile.read_metadata(path)
    assert about["architecture"] == "nequip"
    assert about["elements"] == ["H", "O", "Si"]
    assert about["references"] == {"H": -1.5, "O": -3.25, "Si": -5.125}


def test_neither_sevenn_nor_e3nn_is_imported() -> None:
    code = (
        "import sys; sys.modules.update(sevenn=None, e3nn=None)\n"  # importing them now fails
        "from atomsml.potentials.nequip.sevennet_checkpoint import convert\n"
        f"print(convert({str(DATA / 'graded.pth')!r})[0].elements)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "(1, 8, 14)\n"


def saved() -> dict[str, Any]:
    """The tiny file, which this project has made itself, with nothing left to hide."""
    content: dict[str, Any] = torch.load(DATA / "graded.pth", weights_only=False)
    return content


def test_files_of_old_versions_have_another_order_and_other_signs(tmp_path: Path) -> None:
    """Before 0.11 paths were ordered by l1, and e3nn of that time has some couplings of odd l1 + l2 + l3 turned."""
    content, channels = saved(), (6, 4, 2)
    content["config"]["version"] = "0.9.1"
    del content["config"]["use_oeq"], content["config"]["cuequivariance_config"]
    weights, turned = content["model_state_dict"], (1, 2, 2)
    for i, lmax_in, lmax_out in ((0, 0, 2), (1, 2, 2), (2, 2, 0)):
        new = [
            (l1, l2, l3)
            for l3 in range(lmax_out + 1)
            for l1 in range(lmax_in + 1)
            for l2 in range(3)
            if abs(l1 - l2) <= l3 <= l1 + l2
        ]
        key = f"{i}_convolution.weight_nn.layer2.weight"
        blocks = dict(zip(new, weights[key].split([channels[l1] for l1, _, _ in new], dim=1), strict=True))
        if turned in blocks:
            blocks[turned] = -blocks[turned]
            weights[f"{i}_convolution.convolution._compiled_main_left_right._w3j_1_2_2"] *= -1
        weights[key] = torch.cat([blocks[path] for path in sorted(new)], dim=1)
    torch.save(content, tmp_path / "old.pth")
    expected = convert(DATA / "graded.pth")[0].state_dict()
    for name, value in convert(tmp_path / "old.pth")[0].state_dict().items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"is_parity": True}, "is_parity = True; supported is False"),
        ({"readout_as_fcn": True}, "readout_as_fcn = True"),
        ({"use_bias_in_linear": True}, "use_bias_in_linear = True"),
        ({"act_radial": "ssp"}, "act_radial = 'ssp'"),
        ({"act_gate": {"e": "tanh", "o": "tanh"}}, "act_gate = 'tanh'; supported is 'silu'"),
        ({"interaction_type": "mace"}, "interaction_type = 'mace'"),
        ({"cutoff_function": {"cutoff_function_name": "cosine"}}, "the cutoff function 'cosine'"),
        ({"radial_basis": {"radial_basis_name": "gaussian"}}, "the radial basis 'gaussian'"),
        ({"self_connection_type": ["linear", "nequip", "linear"]}, "self_connection_type = "),
        ({"irreps_manual": ["6x0e", "6x0e+4x1o", "6x0e+4x1o", "6x0e"]}, "the irreps 6x0e"),
        ({"irreps_manual": ["6x0e", "6x0e+4x1e", "6x0e+2x1e", "6x0e"]}, "numbers of channels that differ"),
    ],
    ids=str,
)
def test_other_models_are_refused_by_name(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    content = saved()
    content["config"] |= settings
    path = tmp_path / "other.pth"
    torch.save(content, path)
    with pytest.raises(ValueError, match=rf"^{path}: unsupported SevenNet model: it has [^\n]*{message}[^\n]*$"):
        convert(path)


def test_elements_may_have_scales_of_their_own(tmp_path: Path) -> None:
    """Beside sevenn's energies with the scale 1.75 for all: of an atom, what is above its shift is scaled."""
    content, golden = saved(), read(DATA / "golden.npz")
    content["model_state_dict"]["rescale_atomic_energy.scale"] = torch.tensor([1.0, 2.0, 3.0])  # of H, O, Si
    torch.save(content, tmp_path / "other.pth")
    potential, _ = convert(tmp_path / "other.pth")
    atoms = ase.Atoms(**{key: golden[f"triclinic/{key}"] for key in ("numbers", "positions", "cell", "pbc")})
    found = evaluate(potential, AtomicGraph.from_ase(atoms)).atom_energies.numpy()
    place = np.searchsorted([1, 8, 14], atoms.numbers)
    shift, scale = potential.references.numpy()[place], np.array([1.0, 2.0, 3.0])[place]
    expected = shift + scale / 1.75 * (golden["triclinic/graded/node_energy"] - shift)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


class Hostile:
    """Makes a folder when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("owned",)


def test_a_hostile_file_is_refused_by_name_and_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for place in ("config", "model_state_dict", "optimizer_state_dict"):
        torch.save(saved() | {place: Hostile()}, "evil.pth")
        with pytest.raises(
            ValueError, match=r"refused: the file asks for posix\.mkdir, which is not among the \d+ names"
        ):
            convert("evil.pth")
    assert [path.name for path in Path().iterdir()] == ["evil.pth"]
    torch.load("evil.pth", weights_only=False)  # what it does to those who trust it
    assert Path("owned").is_dir()


def broken(change: str) -> dict[str, Any]:
    content = saved()
    weights, settings = content["model_state_dict"], content["config"]
    name = "1_convolution.convolution._compiled_main_left_right._w3j_1_1_2"
    if change == "weights lost":
        del weights["1_self_interaction_2.linear.weight"]
    elif change == "weights cut":
        weights["1_self_interaction_2.linear.weight"] = weights["1_self_interaction_2.linear.weight"][:-1]
    elif change == "weights of text":
        weights["0_convolution.denominator"] = "7.25"
    elif change == "coupling":
        weights[name] = weights[name] + 0.1
    elif change == "huge":
        settings["irreps_manual"] = ["6x0e", "600000000x0e+400000x1e", "600000000x0e+400000x1e", "6x0e"]
        settings["weight_nn_hidden_neurons"] = [10**9, 10**9]
    elif change == "settings lost":
        del settings["cutoff"]
    elif change == "version":
        settings["version"] = "new"
    return content


CHANGES = ["weights lost", "weights cut", "weights of text", "coupling", "huge", "settings lost", "version"]


@pytest.mark.parametrize("change", CHANGES)
def test_a_damaged_file_is_one_line(change: str, tmp_path: Path) -> None:
    path = tmp_path / "damaged.pth"
    torch.save(broken(change), path)
    with pytest.raises(ValueError, match=rf"^{path}[^\n]*$"):
        convert(path)


@pytest.mark.parametrize("content", [{"config": {}}, {"a": torch.ones(2)}, {"config": 1, "model_state_dict": 2}, [1]])
def test_what_is_no_checkpoint_is_called_so(content: Any, tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save(content, path)
    with pytest.raises(ValueError, match=rf"^{path}[^\n]* not a SevenNet checkpoint"):
        convert(path)


# Live comparison with sevenn


def remake(folder: Path, *arguments: str) -> tuple[Golden, str]:
    """What the script writes, and what it prints."""
    if not SEVENN.exists():
        pytest.skip("sevenn is not installed; run `make sevenn`")
    script = Path(__file__).with_name("make_sevennet_golden.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [SEVENN, "-W", "ignore", script, folder, *arguments], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return read(folder / "golden.npz"), done.stdout.strip()


@pytest.mark.slow
def test_sevenn_computes_the_golden_values_again(tmp_path: Path) -> None:
    golden = read(DATA / "golden.npz")
    for key, value in remake(tmp_path)[0].items():
        np.testing.assert_allclose(value, golden[key], rtol=1e-9, atol=1e-11, err_msg=key)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("SevenNet_0__11Jul2024", torch.float64),
        pytest.param("SevenNet_0__11Jul2024", torch.float32, marks=pytest.mark.slow),
        pytest.param("SevenNet_0__22May2024", torch.float64, marks=pytest.mark.slow),
        pytest.param("SevenNet_l3i5", torch.float64, marks=pytest.mark.slow),
        pytest.param("SevenNet_l3i5", torch.float32, marks=pytest.mark.slow),
        pytest.param("SevenNet_MF_0", torch.float64, marks=pytest.mark.slow),
    ],
)
def test_published_models(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    """In float32 forces, sums of large terms, carry 1e-5 of rounding in sevenn itself, as against its float64."""
    golden, path = remake(tmp_path, "--published", name, "--dtype", str(dtype).removeprefix("torch."))
    exact = {"energy": 1e-9}
    rounded = {"energy": 1e-6, "forces": 3e-5, "stress": 3e-5}
    for modality in ("R2SCAN", "PBE") if name == "SevenNet_MF_0" else (None,):
        potential, _ = convert(path, modality)
        case = name if modality is None else f"{name}/{modality}"
        assert_agrees(potential.cast(dtype), golden, case, exact if dtype == torch.float64 else rounded)
