"""Write what fairchem-core's eSCN computes block by block with random weights, and these weights.

Run by hand and by test_paper.py, with the Python of `.venv-fairchem` (`make fairchem`):

    .venv-fairchem/bin/python tests/potentials/escn/make_escn_golden.py tests/data/escn/golden.npz

In float64, for each case of CASES: the weights under CASE/weight/, and for each structure under CASE/STRUCTURE/ what
its blocks return. STRUCTURE/ has the edges, by receiver, and the rotation into the frame of each, of random roll.
"""

import argparse
from typing import Any

import ase
import ase.build
import numpy as np
import torch
from ase.neighborlist import neighbor_list

torch.set_default_dtype(torch.float64)

from fairchem.core.models.escn.escn import eSCN  # noqa: E402  # its tables take the default type

CUTOFF = 4.0
SHARED = {
    "use_pbc": False,
    "cutoff": CUTOFF,
    "max_num_elements": 9,
    "num_layers": 2,
    "sphere_channels": 4,
    "hidden_channels": 5,
    "edge_channels": 6,
    "num_sphere_samples": 20,
    "distance_resolution": 0.5,
    "basis_width_scalar": 2.0,
}
CASES: dict[str, dict[str, Any]] = {
    "reduced orders": {"lmax_list": [3], "mmax_list": [2]},
    "all orders": {"lmax_list": [2], "mmax_list": [2]},
    "finer grid": {"lmax_list": [2], "mmax_list": [1], "resolution": 10},
}


class Structure:
    """What the network reads of a batch of one structure."""

    def __init__(self, atoms: ase.Atoms) -> None:
        receiver, sender, vectors, self.offsets = neighbor_list("ijDS", atoms, CUTOFF)
        self.edge_index = torch.tensor(np.stack([sender, receiver]))
        self.vectors = torch.tensor(vectors)
        self.pos = torch.tensor(atoms.positions)
        self.atomic_numbers = torch.tensor(atoms.numbers)
        self.natoms = torch.tensor([len(atoms)])
        self.batch = torch.zeros(len(atoms), dtype=torch.int64)


class Network(eSCN):
    """eSCN whose edges and frames are given, so that others can have the same."""

    structure: Structure
    rotations: torch.Tensor

    def generate_graph(self, data: Structure) -> Any:
        graph = super().generate_graph(data)
        graph.edge_distance_vec, graph.edge_distance = data.vectors, data.vectors.norm(dim=1)  # across cell faces too
        return graph

    def _init_edge_rot_mat(self, data: Structure, edge_index: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        return self.rotations


def structures() -> dict[str, ase.Atoms]:
    molecule = ase.build.molecule("H2CO")
    molecule.rattle(0.1, seed=1)
    crystal = ase.Atoms("CO", scaled_positions=[[0.1, 0.2, 0.3], [0.6, 0.55, 0.8]], cell=[3.1, 3.3, 3.6], pbc=True)
    return {"molecule": molecule, "crystal": crystal}


def compute(network: Network, structure: Structure) -> dict[str, np.ndarray]:
    """Outputs of the blocks of the first layer, and of the whole network."""
    first, found = network.layer_blocks[0], {}
    blocks = {
        "scalars": first.message_block.edge_block,
        "convolution": first.message_block.so2_block_source,
        "message": first.message_block,
        "layer": first,
        "energies": network.energy_block,
        "forces": network.force_block,
    }

    def keep(name: str) -> Any:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            found[name] = getattr(output, "embedding", output).detach().clone().numpy()

        return hook

    handles = [block.register_forward_hook(keep(name)) for name, block in blocks.items()]
    outputs = network(structure)
    for handle in handles:
        handle.remove()
    return {**found, "energy": outputs["energy"].detach().numpy()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    networks = {name: Network(**SHARED, **case) for name, case in CASES.items()}
    golden = {}
    for case, network in networks.items():
        for block in (layer.message_block.edge_block for layer in network.layer_blocks):
            for embedding in (block.source_embedding, block.target_embedding):
                torch.nn.init.uniform_(embedding.weight, -1, 1)  # theirs would hardly count
        for name, value in network.named_parameters():
            if value.requires_grad:
                golden[f"{case}/weight/{name}"] = value.detach().numpy()
    for name, atoms in structures().items():
        structure = Structure(atoms)
        rotations = eSCN._init_edge_rot_mat(None, structure, structure.edge_index, structure.vectors)
        for key in ("numbers", "positions", "pbc"):
            golden[f"{name}/{key}"] = getattr(atoms, key)
        golden[f"{name}/cell"] = atoms.cell.array
        golden[f"{name}/edge_index"] = structure.edge_index.numpy()
        golden[f"{name}/cell_offsets"] = structure.offsets
        golden[f"{name}/rotations"] = rotations.numpy()
        for case, network in networks.items():
            network.rotations = rotations
            golden |= {f"{case}/{name}/{key}": value for key, value in compute(network, structure).items()}
    np.savez_compressed(arguments.path, **golden)


if __name__ == "__main__":
    main()
