"""Writes tests/data/equiformer_v2/golden.npz: what fairchem-core's EquiformerV2 computes block by block, its weights.

    make fairchem
    .venv-fairchem/bin/python tests/potentials/equiformer_v2/make_equiformer_golden.py \
        tests/data/equiformer_v2/golden.npz

With fairchem-core 1.10.0, in float64. Rotations into the frames of edges, which it draws at random, are given, and kept
beside the rest. Weights are multiples of 1/64, so that the file is small: they are kept as such integers, one after the
other, and their names and shapes in a list.
"""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from fairchem.core.models.base import GraphData
from fairchem.core.models.equiformer_v2 import equiformer_v2
from fairchem.core.models.equiformer_v2.heads import EqV2ScalarHead, EqV2VectorHead
from torch import Tensor, nn

UNIT = 1 / 64
CUTOFF, NUM_ELEMENTS, NUM_ATOMS = 3.0, 3, 6
AVG_NUM_NODES, AVG_DEGREE = 7.5, 4.5
SIZES = {
    "max_radius": CUTOFF, "max_num_elements": NUM_ELEMENTS + 1, "sphere_channels": 4, "attn_hidden_channels": 5,
    "num_heads": 2, "attn_alpha_channels": 3, "attn_value_channels": 2, "ffn_hidden_channels": 6, "edge_channels": 4,
    "avg_num_nodes": AVG_NUM_NODES, "avg_degree": AVG_DEGREE, "alpha_drop": 0.0, "drop_path_rate": 0.0,
}  # fmt: skip
NETWORKS: dict[str, dict[str, Any]] = {
    "published": {"num_layers": 2, "lmax_list": [3], "mmax_list": [2], "norm_type": "layer_norm_sh",
                  "use_grid_mlp": True},
    "gates": {"num_layers": 1, "lmax_list": [2], "mmax_list": [1], "norm_type": "layer_norm", "use_gate_act": True,
              "use_attn_renorm": False},
    "all orders": {"num_layers": 1, "lmax_list": [2], "mmax_list": [2], "norm_type": "rms_norm_sh",
                   "use_grid_mlp": True, "grid_resolution": 14},
}  # fmt: skip


def random_weights(module: nn.Module, generator: torch.Generator) -> None:
    """Multiples of UNIT: about 1 where layers normalise, of size 1/2 elsewhere."""
    for name, parameter in module.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        about = 1.0 if "affine_weight" in name or (parameter.ndim == 1 and name.endswith("weight")) else 0.0
        parameter.data = about + UNIT * (noise / 2 / UNIT).round().clamp(-127, 127)


def graph(generator: torch.Generator) -> tuple[GraphData, Tensor]:
    """Random atoms, of which the last has no neighbour, with all edges within the cutoff; species of the atoms."""
    positions = 1.2 * torch.randn(NUM_ATOMS - 1, 3, generator=generator, dtype=torch.float64)
    distances = torch.cdist(positions, positions).fill_diagonal_(torch.inf)
    receivers, senders = (distances < CUTOFF).nonzero(as_tuple=True)
    vectors = positions[senders] - positions[receivers]
    species = torch.arange(NUM_ATOMS) % NUM_ELEMENTS
    found = GraphData(
        edge_index=torch.stack([senders, receivers]),
        edge_distance=vectors.norm(dim=1),
        edge_distance_vec=vectors,
        cell_offsets=torch.zeros(len(vectors), 3),
        offset_distances=torch.zeros(len(vectors), 3),
        neighbors=torch.tensor([len(vectors)]),
        batch_full=torch.zeros(NUM_ATOMS, dtype=torch.int64),
        atomic_numbers_full=species + 1,
    )
    return found, species


def rotations(vectors: Tensor, generator: torch.Generator) -> Tensor:
    """Random ones that take each vector to the axis y."""
    y = vectors / vectors.norm(dim=1, keepdim=True)
    x = torch.linalg.cross(y, torch.randn(y.shape, generator=generator, dtype=torch.float64))
    x = x / x.norm(dim=1, keepdim=True)
    return torch.stack([x, y, torch.linalg.cross(x, y)], dim=1)


def run(options: dict[str, Any]) -> dict[str, np.ndarray]:
    """Inputs, outputs of every block, and weights."""
    generator = torch.Generator().manual_seed(0)
    model = equiformer_v2.EquiformerV2Backbone(**SIZES, **options)
    heads = {"energy": EqV2ScalarHead(model), "forces": EqV2VectorHead(model)}
    for module in (model, *heads.values()):
        random_weights(module, generator)
    # the last bias of the energy is that of isolated atoms, which count as zero here
    heads["energy"].energy_block.so3_linear_2.bias.data.zero_()
    given, species = graph(generator)
    turned = rotations(given.edge_distance_vec, generator)
    model.generate_graph = lambda *args, **kwargs: given
    equiformer_v2.init_edge_rot_mat = lambda vectors: turned

    arrays = {"vectors": given.edge_distance_vec.clone(), "edge_index": given.edge_index, "species": species}
    arrays |= {"rotations": turned}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            arrays[f"out/{name}"] = (output if isinstance(output, Tensor) else output.embedding).detach().clone()

        return hook

    model.edge_degree_embedding.register_forward_hook(keep("edge_degree_embedding"))
    for i, block in enumerate(model.blocks):
        for part in ("norm_1", "ga", "norm_2", "ffn"):
            getattr(block, part).register_forward_hook(keep(f"blocks.{i}.{part}"))
    model.norm.register_forward_hook(keep("norm"))
    data = SimpleNamespace(
        natoms=torch.tensor([NUM_ATOMS]),
        pos=torch.zeros(NUM_ATOMS, 3),
        atomic_numbers=species + 1,
        batch=torch.zeros(NUM_ATOMS, dtype=torch.int64),
    )
    with torch.no_grad():
        embedded = model(data)
        for name, head in heads.items():
            arrays[f"out/{name}"] = head(data, embedded)[name]
    weights = dict(nn.ModuleDict({"model": model, **heads}).named_parameters())
    flat = torch.cat([(weight.detach() / UNIT).round().to(torch.int16).flatten() for weight in weights.values()])
    shapes = [" ".join([name, *map(str, weight.shape)]) for name, weight in weights.items()]
    return {name: array.numpy() for name, array in (arrays | {"weights": flat}).items()} | {"shapes": np.array(shapes)}


if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)  # grids and matrices are made in it
    kept = {f"{name}/{key}": array for name, options in NETWORKS.items() for key, array in run(options).items()}
    np.savez_compressed(sys.argv[1], **kept)
