"""Writes tests/data/egnn/golden.npz: what the networks of EGNN's authors make of random inputs, and their weights.

    git clone https://github.com/vgsatorras/egnn OFFICIAL
    python tests/potentials/egnn/make_egnn_golden.py OFFICIAL tests/data/egnn/golden.npz

`clean` is the network of models/egnn_clean with attention, `nbody` that of the N-body experiment, with velocities, and
`qm9` that of the experiments on QM9, up to its readout, whose atoms do not move.
"""

import importlib
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

ELEMENTS, CHANNELS, LAYERS = 3, 8, 3
ATOMS, CUTOFF = 7, 3.0


def geometry() -> tuple[Tensor, Tensor, list[Tensor]]:
    """One-hot elements, positions, and [receivers, senders]; the last atom has no neighbours."""
    generator = torch.Generator().manual_seed(0)
    positions = 1.3 * torch.randn(ATOMS, 3, generator=generator, dtype=torch.float64)
    positions[-1] += 20
    distances = torch.cdist(positions, positions)
    near = (distances < CUTOFF) & ~torch.eye(ATOMS, dtype=torch.bool)
    return torch.eye(ELEMENTS, dtype=torch.float64)[torch.arange(ATOMS) % ELEMENTS], positions, list(near.nonzero().T)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def randomise(network: nn.Module) -> nn.Module:
    """Weights of order one in the last maps as well, which start small."""
    torch.manual_seed(1)
    network = network.double()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    return network


def main(official: str, path: str) -> None:
    sys.path.insert(0, official)
    clean = importlib.import_module("models.egnn_clean.egnn_clean")
    nbody = importlib.import_module("n_body_system.model")
    qm9 = importlib.import_module("qm9.models")
    onehot, positions, edges = geometry()
    of_edges, velocities = normal(len(edges[0]), 2, seed=2), normal(ATOMS, 3, seed=3)
    networks = {
        "clean": clean.EGNN(ELEMENTS, CHANNELS, 1, n_layers=LAYERS, attention=True),
        "nbody": nbody.EGNN_vel(ELEMENTS, 2, CHANNELS, n_layers=LAYERS, recurrent=True),
        "qm9": qm9.EGNN(ELEMENTS, 0, CHANNELS, n_layers=LAYERS, attention=True, node_attr=0),
    }
    networks = {name: randomise(network) for name, network in networks.items()}
    with torch.no_grad():
        energies, moved = networks["clean"](onehot, positions, edges, None)
        moved_by_both = networks["nbody"](onehot, positions.clone(), edges, velocities, of_edges)
        features = networks["qm9"].embedding(onehot)
        ones = torch.ones(len(edges[0]), 1, dtype=torch.float64)
        for i in range(LAYERS):
            layer = networks["qm9"]._modules[f"gcl_{i}"]
            features, _, _ = layer(features, edges, positions, None, ones)
    arrays = {
        **{"positions": positions, "receivers": edges[0], "senders": edges[1]},
        **{"of_edges": of_edges, "velocities": velocities, "clean/outputs": energies, "clean/positions": moved},
        **{"nbody/positions": moved_by_both, "qm9/features": features},
    }
    for name, network in networks.items():
        arrays |= {f"{name}/weight/{key}": value for key, value in network.state_dict().items()}
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **{key: value.numpy() for key, value in arrays.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
