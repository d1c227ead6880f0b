"""Writes tests/data/painn/golden.npz: scalars and vectors of SchNetPack's PaiNN, and its weights.

    pip install --no-deps --target FOLDER schnetpack dirsync fasteners
    PYTHONPATH=FOLDER python tests/potentials/make_painn_golden.py tests/data/painn/golden.npz

With schnetpack 2.1.1. Its own `__init__` asks for other versions of other packages, so only the modules of the network
are imported. The bias of its filters is set to zero: ours have none, so that they end smoothly at the cutoff.
"""

import importlib
import importlib.util
import sys
import types

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.neighborlist import neighbor_list

CUTOFF, CHANNELS, LAYERS, BESSEL = 4.0, 8, 2, 5
ELEMENTS = (1, 6, 8, 29)


def network_modules() -> tuple[types.ModuleType, types.ModuleType]:
    """schnetpack.nn and schnetpack.representation.painn."""
    spec = importlib.util.find_spec("schnetpack")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    for name, folder in (("schnetpack", ""), ("schnetpack.representation", "/representation")):
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = [place + folder for place in spec.submodule_search_locations]
    package = sys.modules["schnetpack"]
    package.properties = importlib.import_module("schnetpack.properties")
    package.nn = importlib.import_module("schnetpack.nn")
    return package.nn, importlib.import_module("schnetpack.representation.painn")


def systems() -> list[Atoms]:
    ethanol, copper = molecule("CH3CH2OH"), bulk("Cu", cubic=True)
    copper.rattle(0.1, seed=1)
    return [ethanol, copper]


def inputs(atoms: Atoms) -> dict[str, torch.Tensor]:
    i, j, offsets = neighbor_list("ijS", atoms, CUTOFF)
    vectors = atoms.positions[j] + offsets @ atoms.cell.array - atoms.positions[i]
    return {
        "_atomic_numbers": torch.tensor(atoms.numbers),
        "_Rij": torch.tensor(vectors),
        "_idx_i": torch.tensor(i),
        "_idx_j": torch.tensor(j),
    }


def main(path: str) -> None:
    nn, painn = network_modules()
    torch.manual_seed(0)
    radial, cutoff = nn.radial.BesselRBF(BESSEL, CUTOFF), nn.CosineCutoff(CUTOFF)
    network = painn.PaiNN(CHANNELS, LAYERS, radial, cutoff).double()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    torch.nn.init.zeros_(network.filter_net.bias)
    arrays = {f"weight/{name}": value.numpy() for name, value in network.state_dict().items()}
    for number, atoms in enumerate(systems()):
        found = network(inputs(atoms))
        arrays[f"scalars/{number}"] = found["scalar_representation"].detach().numpy()
        arrays[f"vectors/{number}"] = found["vector_representation"].detach().numpy()
    arrays["weight/embedding.weight"] = arrays["weight/embedding.weight"][list(ELEMENTS)]
    np.savez_compressed(path, **arrays)


if __name__ == "__main__":
    main(sys.argv[1])
