"""Write tiny SevenNet checkpoints with random weights, and what sevenn computes with them or with a published one.

Run by hand and by test_sevennet_checkpoint.py, with the Python of `.venv-sevenn` (`make sevenn`):

    .venv-sevenn/bin/python tests/potentials/nequip/make_sevennet_golden.py tests/data/sevennet

writes NAME.pth for each tiny model and golden.npz: structures, energies in eV, forces in eV/A, stress in eV/A^3,
energies of the atoms, in float64; for NAME/MODALITY where a model has several. With `--published NAME --dtype float32`
the checkpoint of that name among those that come with sevenn is computed instead, and its path printed.
"""

import argparse
import random
from pathlib import Path

import ase
import ase.build
import numpy as np
import sevenn
import sevenn._const as const
import torch
from sevenn import _keys as keys
from sevenn.atom_graph_data import AtomGraphData
from sevenn.checkpoint import SevenNetCheckpoint
from sevenn.model_build import build_E3_equivariant_model
from sevenn.scripts.backward_compatibility import patch_state_dict_if_old
from sevenn.train.dataload import unlabeled_atoms_to_graph

ELEMENTS = {"H": 1, "O": 8, "Si": 14}
TINY = {
    **const.DEFAULT_E3_EQUIVARIANT_MODEL_CONFIG,
    "cutoff": 4.0,
    "channel": 6,
    "lmax": 2,
    "is_parity": False,
    "num_convolution_layer": 3,
    "weight_nn_hidden_neurons": [8, 8],
    "conv_denominator": 7.25,
    "self_connection_type": "linear",
    "_type_map": {1: 0, 8: 1, 14: 2},
    "_number_of_species": 3,
    "shift": [-1.5, -3.25, -5.125],
    "scale": 1.75,
    "version": sevenn.__version__,
}
MODELS = {
    "graded": {
        "irreps_manual": ["6x0e", "6x0e+4x1e+2x2e", "6x0e+4x1e+2x2e", "6x0e"],
        "cutoff_function": {"cutoff_function_name": "XPLOR", "cutoff_on": 3.5},
    },
    "nequip": {"channel": 4, "self_connection_type": "nequip", "radial_basis": {"radial_basis_name": "bessel"}},
    "solid": {"channel": 4, "num_convolution_layer": 2, "_normalize_sph": False},
    "modal": {
        "channel": 4,
        "num_convolution_layer": 2,
        "use_modality": True,
        "_modal_map": {"R2SCAN": 0, "PBE": 1},
        "_number_of_modalities": 2,
        "use_modal_node_embedding": True,
        "use_modal_self_inter_intro": True,
        "use_modal_self_inter_outro": True,
        "use_modal_output_block": True,
        "use_modal_wise_shift": True,
        "use_modal_wise_scale": True,
        "shift": [[-1.5, -3.25, -5.125], [-1.25, -3.5, -5.0]],
        "scale": [[1.75, 1.75, 1.75], [1.5, 1.5, 1.5]],
    },
}


class Widened(torch.nn.Module):
    """The one-hot embedding of sevenn, which makes float32 whatever the model is, in the default type."""

    def __init__(self, embedding: torch.nn.Module) -> None:
        super().__init__()
        self.embedding = embedding

    def forward(self, data: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        data = self.embedding(data)
        for key in {keys.NODE_FEATURE, keys.NODE_ATTR, keys.MODAL_ATTR} & set(data):
            data[key] = data[key].to(torch.get_default_dtype())
        return data


def restore(checkpoint: SevenNetCheckpoint, modality: str) -> torch.nn.Module:
    """The model of a checkpoint in the default type, as are its couplings, which files hold in float32."""
    model = build_E3_equivariant_model(checkpoint.config)
    stored = {name: x.to(torch.get_default_dtype()) for name, x in checkpoint.model_state_dict.items()}
    state = patch_state_dict_if_old(stored, checkpoint.config, model)
    missing = model.load_state_dict({k: v for k, v in state.items() if "_w3j_" not in k}, strict=False).missing_keys
    assert all("_w3j_" in key for key in missing)
    model.replace_module("onehot_idx_to_onehot", Widened(model._modules["onehot_idx_to_onehot"]))
    if modality:
        model.replace_module("one_hot_modality", Widened(model._modules["one_hot_modality"]))
        model.prepare_modal_deploy(modality)
    model.set_is_batch_data(False)
    return model.to(torch.get_default_dtype()).eval()


def write(name: str, folder: Path) -> Path:
    """A checkpoint as sevenn writes them, with weights that are multiples of 1/64."""
    config = {**TINY, **MODELS[name]}
    torch.manual_seed(list(MODELS).index(name))
    model = build_E3_equivariant_model(config)
    for key, parameter in model.named_parameters():
        if key.split(".")[0] != "rescale_atomic_energy" and not key.endswith("denominator"):
            parameter.data = (parameter.data * 64).round() / 64
    path = folder / f"{name}.pth"
    device = {"device": torch.device("cpu"), "shift": np.array(config["shift"])}
    torch.save({"config": {**config, **device}, "model_state_dict": model.state_dict(), "epoch": 1}, path)
    return path


def structures() -> dict[str, ase.Atoms]:
    rng = np.random.default_rng(67)
    triclinic = ase.Atoms(
        numbers=[14, 8, 8, 1, 1, 14, 8],
        scaled_positions=rng.uniform(0, 1, (7, 3)),
        cell=[[5.1, 0.3, -0.2], [0.9, 4.7, 0.5], [-1.1, 0.8, 5.6]],
        pbc=True,
    )
    slab = ase.build.bulk("Si", cubic=True) * (1, 1, 2)
    slab.pbc = (True, True, False)
    slab.center(vacuum=6.0, axis=2)
    slab.numbers[[3, 11]] = 8
    slab.rattle(0.1, seed=3)
    water = ase.build.molecule("H2O")
    pair = water.copy()
    pair.translate([2.9, 0.3, 0.4])
    silane = ase.build.molecule("SiH4")
    silane.rattle(0.05, seed=4)
    tiny = ase.Atoms("SiO", scaled_positions=[[0.1, 0.2, 0.3], [0.6, 0.55, 0.8]], cell=[2.1, 2.3, 2.6], pbc=True)
    return {"triclinic": triclinic, "slab": slab, "waters": water + pair, "silane": silane, "tiny": tiny}


def compute(model: torch.nn.Module, atoms: ase.Atoms) -> dict[str, np.ndarray]:
    graph = unlabeled_atoms_to_graph(atoms, model.cutoff)
    data = AtomGraphData.from_numpy_dict(dict(graph)).to_dict()  # it narrows what it is given
    for key, value in data.items():
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            data[key] = torch.tensor(graph[key], dtype=torch.get_default_dtype())
    out = model(data)
    found = {
        "energy": out[keys.PRED_TOTAL_ENERGY].reshape(1),
        "node_energy": out[keys.ATOMIC_ENERGY].flatten(),
        "forces": out[keys.PRED_FORCE],
    }
    if atoms.pbc.any():
        found["stress"] = -out[keys.PRED_STRESS][[0, 3, 5, 3, 1, 4, 5, 4, 2]].reshape(3, 3)  # xx yy zz xy yz zx
    return {name: value.detach().numpy() for name, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--published")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float64")
    arguments = parser.parse_args()
    random.seed(0)
    if arguments.published:
        checkpoints = Path(sevenn.__file__).parent / "pretrained_potentials"
        (path,) = (checkpoints / arguments.published).glob("*.pth")
        paths = {arguments.published: path}
        print(path)
    else:
        paths = {name: write(name, arguments.folder) for name in MODELS}
    torch.set_default_dtype(getattr(torch, arguments.dtype))
    golden = {}
    for name, atoms in structures().items():
        for key in ("numbers", "positions", "pbc"):
            golden[f"{name}/{key}"] = getattr(atoms, key)
        golden[f"{name}/cell"] = atoms.cell.array
    for case, path in paths.items():
        checkpoint = SevenNetCheckpoint(path)
        for modality in checkpoint.config.get("_modal_map") or [""]:
            model = restore(checkpoint, modality)
            for name, atoms in structures().items():
                for key, value in compute(model, atoms).items():
                    golden[f"{name}/{case}{modality and '/'}{modality}/{key}"] = value
    np.savez_compressed(arguments.folder / "golden.npz", **golden)


if __name__ == "__main__":
    main()
