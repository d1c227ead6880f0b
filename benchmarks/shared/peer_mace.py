"""The same MACE in mace-torch: models with random weights, and the input they want.

    .venv-peers/bin/python -m benchmarks.shared.peer_mace FOLDER

writes the models of workloads.py as official MACE files. Only an interpreter that has mace-torch can import this.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from e3nn import o3
from mace import modules
from matscipy.neighbours import neighbour_list

from benchmarks.shared.workloads import AVG_NUM_NEIGHBORS, MODELS, Model, Structure


def build(
    elements: Sequence[int],
    channels: int,
    hidden_lmax: int,
    cutoff: float,
    avg_num_neighbors: float,
    lmax: int = 3,
    radial_mlp: Sequence[int] = (64, 64, 64),
) -> torch.nn.Module:
    """A model of two layers and correlation 3, with random weights that depend on torch's seed."""
    block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
    return modules.ScaleShiftMACE(
        r_max=cutoff,
        num_bessel=8,
        num_polynomial_cutoff=5,
        max_ell=lmax,
        interaction_cls_first=block,
        interaction_cls=block,
        num_interactions=2,
        num_elements=len(elements),
        hidden_irreps=o3.Irreps([(channels, (l, (-1) ** l)) for l in range(hidden_lmax + 1)]),
        MLP_irreps=o3.Irreps("16x0e"),
        atomic_energies=np.zeros(len(elements)),
        avg_num_neighbors=avg_num_neighbors,
        atomic_numbers=list(elements),
        correlation=3,
        gate=torch.nn.functional.silu,
        radial_MLP=list(radial_mlp),
        atomic_inter_scale=1.0,
        atomic_inter_shift=0.0,
    )


def batch(systems: Sequence[Atoms], elements: Sequence[int], cutoff: float, dtype: torch.dtype) -> dict[str, Any]:
    """The input of a model, with neighbour lists."""
    # matscipy needs a cell even where nothing is periodic
    cells = [atoms.cell.array if atoms.pbc.any() else np.eye(3) * 100.0 for atoms in systems]
    lists = [
        neighbour_list("ijS", positions=atoms.positions, cell=cell, pbc=atoms.pbc, cutoff=cutoff)
        for atoms, cell in zip(systems, cells, strict=True)
    ]
    starts = np.cumsum([0, *map(len, systems)])
    edges = [np.stack([i, j]) + start for (i, j, _), start in zip(lists, starts[:-1], strict=True)]
    numbers = np.concatenate([atoms.numbers for atoms in systems])
    return {
        "positions": torch.tensor(np.concatenate([atoms.positions for atoms in systems]), dtype=dtype),
        "cell": torch.tensor(np.concatenate(cells), dtype=dtype),
        "pbc": torch.tensor(np.stack([atoms.pbc for atoms in systems])),
        "edge_index": torch.tensor(np.concatenate(edges, axis=1), dtype=torch.int64),
        "unit_shifts": torch.tensor(np.concatenate([offsets for _, _, offsets in lists]), dtype=dtype),
        "shifts": torch.tensor(
            np.concatenate([x @ cell for (_, _, x), cell in zip(lists, cells, strict=True)]), dtype=dtype
        ),
        "node_attrs": torch.eye(len(elements), dtype=dtype)[np.searchsorted(elements, numbers)],
        "batch": torch.arange(len(systems)).repeat_interleave(torch.tensor([len(atoms) for atoms in systems])),
        "ptr": torch.tensor(starts),
        "head": torch.zeros(len(systems), dtype=torch.int64),
    }


def write(model: Model, structure: Structure, path: Path) -> None:
    """Save a model in float64, scaled to forces of 1 eV/A (root mean square) in a structure.

    float32 can hold its weights, so that both precisions compute the same potential.
    """
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    network = build(model.elements, 128, model.hidden_lmax, model.cutoff, AVG_NUM_NEIGHBORS)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(parameter.float())
    forces = network(batch(structure.systems(), model.elements, model.cutoff, torch.float64))["forces"]
    network.scale_shift.scale.div_(forces.square().mean().sqrt()).copy_(network.scale_shift.scale.float())
    torch.save(network, path)


if __name__ == "__main__":
    for model, structure in MODELS.items():
        write(model, structure, Path(sys.argv[1]) / model.file)
