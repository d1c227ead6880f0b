"""Packaged models of nequip, read without nequip or e3nn, give what nequip computes.

The files in tests/data/nequip, with random weights, and the values beside them were written by nequip 0.19.0
(make_nequip_golden.py). They lack the source code that `nequip-package` puts into its files and that nobody reads.
"""

import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ase.build import molecule

from atomsml import modelfile
from atomsml.graph import AtomicGraph
from atomsml.modelfile.inert_pickle import Record, StoredTensor, load_inert_package
from atomsml.potential import evaluate
from atomsml.potentials.nequip import nequip_package
from atomsml.potentials.nequip.nequip_package import NAMES, PICKLE, WHAT
from atomsml.potentials.published import read_published
from tests.potentials.nequip.test_nequip_weights import EXACT, GOLDEN, ROOT, remake
from tests.potentials.nequip.test_sevennet_checkpoint import assert_agrees, read

DATA = GOLDEN.parent
FILES = ("preset", "repulsion")


@pytest.mark.parametrize("name", FILES)
def test_energies_forces_and_stress_are_those_of_nequip(name: str, tmp_path: Path) -> None:
    potential, metadata = read_published(DATA / f"{name}.nequip.zip")
    assert potential.dtype == torch.float64
    assert metadata["source"]["file"] == f"{name}.nequip.zip"
    assert_agrees(potential, read(GOLDEN), name, EXACT)
    modelfile.save(potential, tmp_path / "converted.safetensors", metadata)
    assert_agrees(modelfile.load(tmp_path / "converted.safetensors"), read(GOLDEN), name, EXACT)


def test_one_of_natural_parity_has_a_program_without_autograd() -> None:
    potential, _ = read_published(DATA / "preset.nequip.zip")
    assert potential.program() is not None
    graph = AtomicGraph.from_ase(molecule("SiH4"))
    found, expected = potential.predictor()(graph), evaluate(potential, graph)
    torch.testing.assert_close(found.forces, expected.forces, rtol=1e-6, atol=1e-7)  # radial functions are tables


@pytest.mark.slow
def test_whole_packages_are_read_as_well(tmp_path: Path) -> None:
    golden = remake(tmp_path, "--whole")
    for name in FILES:
        with zipfile.ZipFile(tmp_path / f"{name}.nequip.zip") as archive:
            assert any(entry.endswith("nequip/nn/interaction_block.py") for entry in archive.namelist())
        assert_agrees(read_published(tmp_path / f"{name}.nequip.zip")[0], golden, name, EXACT)


def test_neither_nequip_nor_e3nn_is_imported() -> None:
    code = (
        "import sys; sys.modules.update(nequip=None, e3nn=None)\n"  # importing them now fails
        "from atomsml.potentials.published import read_published\n"
        f"print(read_published({str(DATA / 'preset.nequip.zip')!r})[0].elements)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "(1, 8, 14)\n"


def test_of_several_models_one_is_chosen(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no head PBE; the file has sole_model"):
        read_published(DATA / "preset.nequip.zip", "PBE")


NETWORK = "sole_model.model.func"
CHANGES: dict[str, tuple[str, str, Any]] = {  # of a module its attribute, and what else it could be
    "embeddings of graphs": ("type_embed", "do_categorical_graph_field_embed", True),
    "edge_norm._per_edge_type = True": ("edge_norm", "_per_edge_type", True),
    "mlp_module.num_layers = 2": ("per_atom_energy_readout.mlp_module", "num_layers", 2),
    "resnet": ("layer1_convnet", "resnet", True),
    "without self-connection": ("layer2_convnet.conv", "use_sc", False),
    "with the gain 1.7": ("layer1_convnet.equivariant_nonlin.act_scalars.acts.0", "cst", 1.7),
    "envelope of power 2.5": ("bessel_encode.cutoff", "p", 2.5),
    "envelope than the network": ("pair_potential.cutoff", "p", 5.0),
    "in other units": ("pair_potential", "_qqr2exesquare", StoredTensor(torch.tensor(166.0))),
    "of other elements": ("pair_potential", "atomic_numbers", StoredTensor(torch.tensor([6.0, 1.0, 8.0]))),
    "number of neighbours for each type": (
        "layer0_convnet.conv.avg_num_neighbors_norm",
        "norm_const",
        StoredTensor(torch.ones(3, 1)),
    ),
    "the type 'my_H'": ("", "type_names", ["Si", "my_H", "O"]),
}


@pytest.mark.parametrize("message", CHANGES)
def test_other_models_are_refused_by_name(message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = load_inert_package(DATA / "repulsion.nequip.zip", PICKLE, NAMES, WHAT)
    place, key, value = CHANGES[message]
    module = tree.record("sole_model" if key == "type_names" else f"{NETWORK}.{place}")
    table = next((t for t in ("_buffers", "_parameters") if key in module.state.get(t, {})), None)
    (module.state if table is None else module.state[table])[key] = value
    monkeypatch.setattr(nequip_package, "load_inert_package", lambda *_: tree)
    wanted = "do_categorical_graph_field_embed = True" if message == "embeddings of graphs" else message
    with pytest.raises(ValueError, match=rf"unsupported nequip model: it has [^\n]*{wanted}[^\n]*$"):
        nequip_package.convert(DATA / "repulsion.nequip.zip")


def test_unknown_modules_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = load_inert_package(DATA / "repulsion.nequip.zip", PICKLE, NAMES, WHAT)
    network = tree.record(NETWORK)
    network.state["_modules"]["dispersion"] = network.record("factor")
    monkeypatch.setattr(nequip_package, "load_inert_package", lambda *_: tree)
    with pytest.raises(ValueError, match=r"it has the module dispersion \(ApplyFactor\)$"):
        nequip_package.convert(DATA / "repulsion.nequip.zip")


def rewrite(path: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """The small package with other entries."""
    with zipfile.ZipFile(DATA / "preset.nequip.zip") as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    change(entries)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


class Hostile:
    """Makes a folder when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("owned",)


def test_a_hostile_file_is_refused_by_name_and_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = "preset.nequip"
    path = rewrite(Path("evil.nequip.zip"), lambda x: x.update({f"{folder}/{PICKLE}": pickle.dumps(Hostile(), 2)}))
    with pytest.raises(ValueError, match=r"refused: the file asks for posix\.mkdir, which is not among the \d+ names"):
        read_published(path)
    assert [each.name for each in Path().iterdir()] == ["evil.nequip.zip"]


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.pop("preset.nequip/.data/34.storage"),
        lambda x: x.update({"preset.nequip/.data/34.storage": b"1234"}),
        lambda x: x.pop(f"preset.nequip/{PICKLE}"),
        lambda x: x.update({f"preset.nequip/{PICKLE}": x[f"preset.nequip/{PICKLE}"][:-9]}),
        lambda x: x.update({f"preset.nequip/{PICKLE}": pickle.dumps([1, 2], 2)}),
        lambda x: x.update({f"more/{PICKLE}": b""}),
    ],
    ids=["storage lost", "storage cut", "pickle lost", "pickle cut", "no model", "two models"],
)
def test_a_damaged_file_is_one_line(change: Callable[[dict[str, bytes]], None], tmp_path: Path) -> None:
    path = rewrite(tmp_path / "damaged.nequip.zip", change)
    with pytest.raises(ValueError, match=rf"^{path}[^\n]*$"):
        read_published(path)


def test_tensors_that_do_not_fit_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("layer0_convnet.conv.linear_2", "type_embed.embed_module", "layer1_convnet.conv.edge_mlp.mlp.0"):
        tree = load_inert_package(DATA / "preset.nequip.zip", PICKLE, NAMES, WHAT)
        module: Record = tree.record(f"{NETWORK}.{place}")
        module.state["_parameters"]["weight"] = StoredTensor(torch.ones(2, 2))
        monkeypatch.setattr(nequip_package, "load_inert_package", lambda *_, tree=tree: tree)
        with pytest.raises(ValueError, match=r"is damaged and cannot be read as a packaged nequip model: [^\n]*$"):
            nequip_package.convert(DATA / "preset.nequip.zip")


def test_a_checkpoint_of_a_training_is_called_so(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    torch.save({"pytorch-lightning_version": "2.6", "state_dict": {"a": torch.ones(2)}}, path)
    with pytest.raises(ValueError, match=r"is a checkpoint of a training by Lightning[^\n]*nequip-package build"):
        read_published(path)
