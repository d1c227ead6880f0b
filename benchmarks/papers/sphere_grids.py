"""How far eSCN and EquiformerV2 as published are from equivariant and smooth, against the points of their grids.

    python -m benchmarks.papers.sphere_grids MODEL TEST [--structures 5]

MODEL is one with `paper: true`, trained on structures like those of TEST. Its weights are put on grids of other sizes,
as published first, and in eSCN read at other numbers of points. For each, structures are turned at random, and energies
and forces turned back compared with their means; and the frames of edges are rolled at random about their edges.
Besides: by how much energies change as a pair of atoms crosses the cutoff, for pairs of 50 structures that are within
0.2 A of it.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from scipy.spatial.transform import Rotation
from torch import Tensor

from atomsml import AtomicGraph, evaluate, load
from atomsml.graph import NeighborGraph
from atomsml.nn.edge_frame import edge_rotation
from atomsml.potential import Potential, Prediction
from benchmarks.shared.reporting import processor, read_frames, table

ROTATIONS = 6
GRIDS = (0, 8, 12, 16, 24)  # circles of latitude and points on each; 0: as published
POINTS = (128, 512, 2048)  # of eSCN's readout, the first as published
NEAR = 0.2  # A: pairs so near the cutoff are taken out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("test", type=Path, help="an .extxyz.xz file")
    parser.add_argument("--structures", type=int, default=5, metavar="N", help="to be turned, evenly spread over TEST")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    potential = load(arguments.model).cast(torch.float64)
    frames = read_frames(arguments.test)
    graphs, many = (spread_over(frames, n, potential.cutoff) for n in (arguments.structures, 50))
    print(f"{processor()}, one thread, float64; {len(graphs)} structures, {ROTATIONS} rotations each")
    forces = torch.cat([forces_of(evaluate(potential, graph)) for graph in graphs])
    print(f"root mean square force {1e3 * forces.square().mean().sqrt():.0f} meV/A\n")
    print(table(HEADER, [measure(changed, graphs) for changed in variants(potential)]))
    print(jumps(potential, many))


def spread_over(frames: list[Atoms], number: int, cutoff: float) -> list[NeighborGraph]:
    """So many structures, evenly spread."""
    chosen = torch.linspace(0, len(frames) - 1, number).long().tolist()
    return [AtomicGraph.from_ase(frames[i]).with_neighbors(cutoff) for i in chosen]


HEADER = ("grid", "points of the readout", "rotations: E, meV/atom", "F, meV/A", "rolls: E, meV/atom", "CPU time")


def variants(potential: Potential) -> Iterator[Potential]:
    """The potential on other grids; no weight depends on them."""
    published = potential.config.grid_resolution
    grids = [{"grid_resolution": n or published} for n in GRIDS if not 0 < n < 2 * potential.config.lmax + 1]
    points: list[dict[str, int]] = [{}]
    if "num_sphere_points" in {field.name for field in dataclasses.fields(potential.config)}:
        points = [{"num_sphere_points": n} for n in POINTS]
    options = [grid | points[0] for grid in grids] + [
        grid | more for more in points[1:] for grid in (grids[0], grids[-1])
    ]
    for changes in options:
        changed = type(potential)(dataclasses.replace(potential.config, **changes)).cast(torch.float64)
        changed.load_state_dict(potential.state_dict())
        yield changed.eval()


def measure(potential: Potential, graphs: list[NeighborGraph]) -> list[str]:
    """A row of the table."""
    config, turns = potential.config, torch.from_numpy(Rotation.random(ROTATIONS, random_state=0).as_matrix())
    start = time.process_time()
    energies, forces, rolled = [], [], []
    for graph in graphs:
        turned = [
            evaluate(potential, graph.replace(positions=graph.positions @ r.T, cell=graph.cell @ r.T)) for r in turns
        ]
        energies.append(torch.cat([each.energy for each in turned]) / graph.num_atoms)
        forces.append(torch.stack([forces_of(each) @ r for each, r in zip(turned, turns, strict=True)]))
    seconds = time.process_time() - start
    for graph in graphs:
        with random_rolls(potential):
            again = [evaluate(potential, graph, forces=False).energy for _ in turns]
        rolled.append(torch.cat(again) / graph.num_atoms)
    return [
        str(config.grid_resolution or "as published"),
        str(getattr(config, "num_sphere_points", "-")),
        *(f"{1e3 * spread(each):.2g}" for each in (energies, forces, rolled)),
        f"{1e3 * seconds / (ROTATIONS * sum(graph.num_atoms for graph in graphs)):.2g} ms/atom",
    ]


def forces_of(prediction: Prediction) -> Tensor:
    assert prediction.forces is not None  # `evaluate` was not told to leave them out
    return prediction.forces


def spread(values: list[Tensor]) -> float:
    """Root mean square deviation from the mean over the first axis."""
    return math.sqrt(torch.cat([(each - each.mean(dim=0)).flatten() for each in values]).square().mean())


@contextmanager
def random_rolls(potential: Potential) -> Iterator[None]:
    """Frames turned about their edges by random angles, as the authors draw them."""
    module: Any = sys.modules[type(potential.paper).__module__]
    generator = torch.Generator().manual_seed(0)

    def rolled(vectors: Tensor) -> Tensor:
        angles = 2 * math.pi * torch.rand(len(vectors), generator=generator, dtype=vectors.dtype)
        turns = Rotation.from_euler("y", angles.numpy()[:, None]).as_matrix()
        return torch.from_numpy(turns) @ edge_rotation(vectors)

    module.edge_rotation = rolled
    try:
        yield
    finally:
        module.edge_rotation = edge_rotation


def jumps(potential: Potential, graphs: list[NeighborGraph], most: int = 20) -> str:
    """By how much the energy changes as a pair leaves the neighbour lists of both its atoms."""
    found = []
    for graph in graphs:
        whole = evaluate(potential, graph, forces=False).energy
        sender, receiver = graph.edge_index
        vectors = graph.edge_vectors()
        near = (vectors.norm(dim=1) > potential.cutoff - NEAR).nonzero().flatten()
        for edge in near[torch.randperm(len(near), generator=torch.Generator().manual_seed(0))[:most]].tolist():
            back = (sender == receiver[edge]) & (receiver == sender[edge])
            back &= ((vectors + vectors[edge]).abs() < 1e-9).all(dim=1)
            kept = ~back
            kept[edge] = False
            less = graph.replace(edge_index=graph.edge_index[:, kept], cell_offsets=graph.cell_offsets[kept])
            found.append(evaluate(potential, less, forces=False).energy - whole)
    if not found:
        return f"no pair ends within {NEAR} A of the cutoff"
    size = 1e3 * torch.cat(found).square().mean().sqrt()
    return f"energy of a pair that crosses the cutoff: {size:.2g} meV, root mean square of {len(found)} pairs"


if __name__ == "__main__":
    main()
