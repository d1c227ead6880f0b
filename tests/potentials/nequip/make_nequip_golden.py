"""Write what nequip computes with small networks of random weights, the weights beside it.

Run by hand and by test_nequip.py, with the Python of `.venv-nequip` (`make nequip`):

    .venv-nequip/bin/python -W ignore tests/potentials/nequip/make_nequip_golden.py tests/data/nequip

writes golden.npz: structures; of each network its settings as JSON, its tensors under nequip's names, and of each
structure energy in eV, energies of the atoms, forces in eV/A and stress in eV/A^3, in float64. For those of PACKAGED it
writes a packaged model as well, without the source code and compiled programs that `nequip-package` puts into it; with
--whole, they are in it.
"""

import argparse
import json
import zipfile
from pathlib import Path
from typing import Any

import ase
import ase.build
import numpy as np
import torch
import yaml
from e3nn.util.codegen import CodeGenMixin
from nequip.data import AtomicDataDict, from_ase
from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper, NeighborListTransform
from nequip.model import NequIPGNNModel
from nequip.scripts._package_utils import _EXTERNAL_MODULES, _INTERNAL_MODULES, _MOCK_MODULES
from nequip.train.lightning import _SOLE_MODEL_KEY
from nequip.utils.global_state import set_global_state

CUTOFF = 4.0
PACKAGED = ("preset", "repulsion")
COMMON: dict[str, Any] = {
    "seed": 0,
    "model_dtype": "float64",
    "r_max": CUTOFF,
    "type_names": ["Si", "H", "O"],
    "avg_num_neighbors": 7.25,
    "radial_mlp_width": 6,
    "per_type_energy_scales": {"Si": 1.5, "H": 0.75, "O": 1.25},
    "per_type_energy_shifts": {"Si": -5.125, "H": -1.5, "O": -3.25},
}
MODELS: dict[str, dict[str, Any]] = {
    "preset": {"num_layers": 2, "l_max": 1, "num_features": [6, 3], "parity": False, "type_embed_num_features": 4},
    "natural": {"num_layers": 3, "l_max": 2, "num_features": [4, 3, 2], "parity": False, "radial_mlp_depth": 2},
    "both, l 1": {"num_layers": 4, "l_max": 1, "num_features": 3, "parity": True, "per_type_energy_scales": 1.75},
    "both, l 2": {
        "num_layers": 4,
        "l_max": 2,
        "num_features": [4, 3, 2],
        "parity": True,
        "type_embed_num_features": 5,
        "bessel_trainable": True,
        "polynomial_cutoff_p": 4,
        "num_bessels": 5,
    },
    "both, l 3": {"num_layers": 3, "l_max": 3, "num_features": [3, 2, 2, 1], "parity": True, "learnable_shift": True},
    "natural, l 3": {
        "num_layers": 2,
        "l_max": 3,
        "num_features": 2,
        "parity": False,
        "per_type_energy_scales": None,
        "per_type_energy_shifts": None,
    },
    "repulsion": {
        "num_layers": 3,
        "l_max": 1,
        "num_features": 3,
        "parity": True,
        "per_type_energy_scales": 1.75,
        "pair_potential": {
            "_target_": "nequip.nn.pair_potential.ZBL",
            "units": "metal",
            "chemical_species": ["Si", "H", "O"],
        },
    },
}


def structures() -> dict[str, ase.Atoms]:
    rng = np.random.default_rng(67)
    triclinic = ase.Atoms(
        numbers=[14, 8, 8, 1, 1, 14, 8],
        scaled_positions=rng.uniform(0, 1, (7, 3)),
        cell=[[5.1, 0.3, -0.2], [0.9, 4.7, 0.5], [-1.1, 0.8, 5.6]],
        pbc=True,
    )
    slab = ase.build.bulk("Si", cubic=True)
    slab.pbc = (True, True, False)
    slab.center(vacuum=6.0, axis=2)
    slab.numbers[[3]] = 8
    slab.rattle(0.1, seed=3)
    water = ase.build.molecule("H2O")
    pair = water.copy()
    pair.translate([2.9, 0.3, 0.4])
    silane = ase.build.molecule("SiH4")
    silane.rattle(0.05, seed=4)
    tiny = ase.Atoms("SiO", scaled_positions=[[0.1, 0.2, 0.3], [0.6, 0.55, 0.8]], cell=[2.1, 2.3, 2.6], pbc=True)
    return {"triclinic": triclinic, "slab": slab, "waters": water + pair, "silane": silane, "tiny": tiny}


def network(settings: dict[str, Any]) -> torch.nn.Module:
    """With weights that are multiples of 1/64, which fewer bytes hold; learned frequencies are not the first ones."""
    model: torch.nn.Module = NequIPGNNModel(**settings)
    for name, parameter in model.named_parameters():
        parameter.data = (parameter.data * 64).round() / 64
        if name.endswith("bessel_weights"):
            parameter.data += torch.tensor([0.0, 0.25, -0.125, 0.5, 0.0])
    return model.eval()


def tensors(model: torch.nn.Module) -> dict[str, np.ndarray]:
    """Parameters, and the buffers of scales, shifts and frequencies, named from the modules of the energy model on."""
    kept = {}
    for name, x in [*model.named_parameters(), *model.named_buffers()]:
        inner = name.removeprefix("model.func.")
        if x.numel() > 0 and inner.rsplit(".")[-1] in ("weight", "bessel_weights", "scales", "shifts"):
            kept[inner] = x.detach().numpy()
    return kept


def compute(model: torch.nn.Module, atoms: ase.Atoms, names: list[str]) -> dict[str, np.ndarray]:
    atoms = atoms.copy()
    if atoms.cell.rank != 3:
        atoms.cell = 30 * np.eye(3)  # nequip computes a virial of whatever it is given
    data = from_ase(atoms)
    for transform in (ChemicalSpeciesToAtomTypeMapper(model_type_names=names), NeighborListTransform(r_max=CUTOFF)):
        data = transform(data)
    out = model(data)
    found = {
        "energy": out[AtomicDataDict.TOTAL_ENERGY_KEY].reshape(1),
        "node_energy": out[AtomicDataDict.PER_ATOM_ENERGY_KEY].flatten(),
        "forces": out[AtomicDataDict.FORCE_KEY],
    }
    if atoms.pbc.any():
        found["stress"] = out[AtomicDataDict.STRESS_KEY][0]
    return {name: value.detach().numpy() for name, value in found.items()}


def package(model: torch.nn.Module, path: Path, whole: bool) -> None:
    """As nequip-package writes it."""
    pickled = CodeGenMixin.__getstate__
    if not whole:
        CodeGenMixin.__getstate__ = lambda module: {**pickled(module), "__codegen__": {}}
    importers = (torch.package.importer.sys_importer,)
    with torch.package.PackageExporter(path, importer=importers) as exporter:
        exporter.mock([f"{name}.**" for name in _MOCK_MODULES])
        exporter.extern([f"{name}.**" for name in _EXTERNAL_MODULES])
        exporter.intern([f"{name}.**" for name in _INTERNAL_MODULES])
        models = torch.nn.ModuleDict({_SOLE_MODEL_KEY: model})
        exporter.save_pickle("model", "eager_model.pkl", models, dependencies=True)
        names = dict(enumerate(model.type_names))
        about = {"package_version_id": 2, "available_models": ["eager"], "atom_types": names}
        exporter.save_text("model", "package_metadata.txt", yaml.dump(about))
    CodeGenMixin.__getstate__ = pickled
    if not whole:
        with zipfile.ZipFile(path) as archive:
            kept = {name: archive.read(name) for name in archive.namelist() if not name.endswith(".py")}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for name, content in kept.items():
                archive.writestr(zipfile.ZipInfo(name), content)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--whole", action="store_true")
    arguments = parser.parse_args()
    set_global_state(allow_tf32=False)
    golden: dict[str, Any] = {}
    for name, atoms in structures().items():
        for key in ("numbers", "positions", "pbc"):
            golden[f"{name}/{key}"] = getattr(atoms, key)
        golden[f"{name}/cell"] = atoms.cell.array
    for case, own in MODELS.items():
        settings = {**COMMON, **own}
        model = network(settings)
        golden[f"settings/{case}"] = json.dumps(settings)
        golden |= {f"weights/{case}/{name}": x for name, x in tensors(model).items()}
        for name, atoms in structures().items():
            for key, value in compute(model, atoms, settings["type_names"]).items():
                golden[f"{name}/{case}/{key}"] = value
        if case in PACKAGED:
            package(model, arguments.folder / f"{case}.nequip.zip", arguments.whole)
    np.savez_compressed(arguments.folder / "golden.npz", **golden)


if __name__ == "__main__":
    main()
