"""How exactly Facet as published is equivariant: the rotation error against the points of its grid, and their time.

    python -m benchmarks.papers.facet_rotation MODEL TEST [--docs]

MODEL is a Facet with `pointwise: mlp`, trained on the molecules of TEST, as by

    atomsml train --train ethanol_train_01.extxyz.xz --valid 50 --model facet --size small --max-minutes 4 --seed 0 \\
        --set model_options.pointwise=mlp --set 'model_options.grid=[18, 17]'

Its weights are put on grids of other sizes. The first structures of TEST are turned at random: the energy must not
change, and the forces must turn with them. Beside it stand the same architecture with random weights, with which
features are of size 1, and grids of half the latitudes, which Gauss-Legendre quadrature allows.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from scipy.spatial.transform import Rotation
from torch import Tensor, nn

from atomsml import modelfile
from atomsml.graph import AtomicGraph
from atomsml.potential import evaluate
from atomsml.potentials.facet import Facet
from atomsml.potentials.facet.perceptron import PerceptronLayer, SphereConnection, glorot
from benchmarks.shared.reporting import DOCS, processor, read_frames, replace_section, table

GRIDS = ((8, 7), (12, 11), (18, 17), (24, 23), (32, 31), (48, 47))
FROM_GAUSS = ((9, 17), (16, 31))
STRUCTURES, ROTATIONS, SECTION = 5, 4, "facet rotation"


@dataclass(frozen=True)
class RotationError:
    """Of a model on a grid."""

    energy: float  # root mean square, meV
    forces: float  # root mean square over that of the forces
    milliseconds: float  # of the processor, energy and forces of a structure


def rotation_error(model: Facet, graphs: list[AtomicGraph]) -> RotationError:
    energies, forces, sizes, times = [], [], [], []
    turns = torch.from_numpy(Rotation.random(ROTATIONS, random_state=0).as_matrix())
    for graph in graphs:
        before = evaluate(model, graph)
        assert before.forces is not None
        sizes.append(before.forces)
        for turn in turns:
            begin = time.process_time()
            after = evaluate(model, graph.replace(positions=graph.positions @ turn))
            times.append(time.process_time() - begin)
            assert after.forces is not None
            energies.append(1e3 * (after.energy - before.energy))
            forces.append(after.forces - before.forces @ turn)
    share = root_mean_square(forces) / root_mean_square(sizes)
    return RotationError(root_mean_square(energies), share, 1e3 * statistics.median(times))


def root_mean_square(values: list[Tensor]) -> float:
    return float(torch.cat([x.detach().flatten() for x in values]).square().mean().sqrt())


def put_on(model: Facet, grid: tuple[int, int], gauss: bool) -> None:
    """The weights do not depend on the grid."""
    for layer in model.layers:
        connection = layer.self_connection
        if isinstance(connection, SphereConnection):
            rule = "gauss-legendre" if gauss else "equiangular"
            connection.grid = replace(connection.grid, latitudes=grid[0], longitudes=grid[1], rule=rule)


def random_weights(trained: Facet) -> Facet:
    """The same architecture with features of size 1."""
    torch.manual_seed(0)
    model = Facet(replace(trained.config, scale=1.0, shift=0.0)).double()
    with torch.no_grad():
        model.embedding *= model.embedding.shape[1] ** 0.5
        for layer in model.layers:
            assert isinstance(layer, PerceptronLayer)
            layer.radial /= glorot(layer.radial)
            for factor in layer.norm.factors:
                nn.init.ones_(factor)
    return model


def report(model: Facet, graphs: list[AtomicGraph]) -> str:
    rows = []
    for grid, gauss in [*((grid, False) for grid in GRIDS), *((grid, True) for grid in FROM_GAUSS)]:
        found = []
        for which in (model, random_weights(model)):
            put_on(which, grid, gauss)
            found.append(rotation_error(which, graphs))
        latitudes, longitudes = grid
        name = f"{latitudes} x {longitudes}" + ", Gauss-Legendre" * gauss
        errors = [f"{each:.1e}" for one in found for each in (one.energy, one.forces)]
        rows.append([name, str(latitudes * longitudes), *errors, f"{found[0].milliseconds:.1f}"])
        print(*rows[-1], sep="  ", flush=True)
    spread = 1e3 * torch.cat([evaluate(model, graph, forces=False).energy for graph in graphs]).std().item()
    header = ["grid", "points", "energy, meV", "forces", "random weights: energy, meV", "forces", "ms"]
    head = (
        f"{processor()}, one thread, float64; {len(graphs)} structures, {ROTATIONS} rotations each; energies have "
        f"a standard deviation of {spread:.0f} meV."
    )
    return f"{head}\n\n{table(header, rows)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("test", type=Path, help="an .extxyz.xz file")
    parser.add_argument("--docs", action="store_true", help="put the table into docs/architectures.md as well")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = modelfile.load(arguments.model).cast(torch.float64)
    if not isinstance(model, Facet) or model.config.pointwise != "mlp":
        parser.error(f"{arguments.model} is no Facet with pointwise: mlp")
    frames = read_frames(arguments.test)[:STRUCTURES]
    text = report(model, [AtomicGraph.from_ase(atoms) for atoms in frames])
    print(text)
    if arguments.docs:
        replace_section(DOCS / "architectures.md", SECTION, text)


if __name__ == "__main__":
    main()
