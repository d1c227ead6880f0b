"""How exactly EquiformerV2 as published is equivariant: the rotation error against the points of its grids.

    python -m benchmarks.papers.equiformer_rotation MODEL TEST [--docs]

MODEL has `paper: true` and was trained on the molecules of TEST, such as the folder 3-0 that
`benchmarks.papers.equiformer_ablation` leaves. Its weights do not depend on the grid, and are put on others. The first
structures of TEST are turned at random: the energy must not change, and the forces must turn with them. Beside it
stands the same network with random weights. --docs puts the table into docs/faithful.md.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from atomsml import modelfile
from atomsml.graph import AtomicGraph
from atomsml.potential import evaluate
from atomsml.potentials.equiformer_v2 import EquiformerV2
from benchmarks.papers.facet_rotation import rotation_error
from benchmarks.shared.reporting import DOCS, processor, read_frames, replace_section, table

GRIDS = (0, 8, 12, 18, 24, 32)  # 0: as few points as published
STRUCTURES, SECTION = 3, "EquiformerV2's rotations"


def on_grid(model: EquiformerV2, resolution: int, trained: bool) -> EquiformerV2:
    """The same network on another grid, with its own weights or with random ones."""
    torch.manual_seed(0)
    other = EquiformerV2(replace(model.config, grid_resolution=resolution)).double()
    if trained:
        other.load_state_dict(model.state_dict())
    return other.eval()


def report(model: EquiformerV2, graphs: list[AtomicGraph]) -> str:
    lmax = model.config.lmax
    rows = []
    for resolution in GRIDS:
        if 0 < resolution <= 2 * lmax:
            continue
        found = [rotation_error(on_grid(model, resolution, trained), graphs) for trained in (True, False)]
        name = f"{resolution} x {resolution}" if resolution else f"{2 * (lmax + 1)} latitudes"
        errors = [f"{each:.1e}" for one in found for each in (one.energy, one.forces)]
        rows.append([name, *errors, f"{found[0].milliseconds:.1f}"])
        print(*rows[-1], sep="  ", flush=True)
    spread = 1e3 * torch.cat([evaluate(model, graph, forces=False).energy for graph in graphs]).std().item()
    header = ["grid", "trained: energy, meV", "forces", "random weights: energy, meV", "forces", "ms"]
    head = (
        f"lmax {lmax}, mmax {model.config.mmax}. {processor()}, one thread, float64; "
        f"{len(graphs)} structures, four rotations each; energies have a standard deviation of {spread:.0f} meV."
    )
    return f"{head}\n\n{table(header, rows)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("test", type=Path, help="an .extxyz.xz file")
    parser.add_argument("--docs", action="store_true", help="put the table into docs/faithful.md as well")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = modelfile.load(arguments.model).cast(torch.float64)
    if not isinstance(model, EquiformerV2) or model.paper is None:
        parser.error(f"{arguments.model} is no EquiformerV2 with paper: true")
    frames = read_frames(arguments.test)[:STRUCTURES]
    text = report(model, [AtomicGraph.from_ase(atoms) for atoms in frames])
    print(text)
    if arguments.docs:
        replace_section(DOCS / "faithful.md", SECTION, text)


if __name__ == "__main__":
    main()
