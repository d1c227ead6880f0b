"""NequIP here and in nequip: models of nequip's presets, eager and compiled ahead of time, in turns.

    python -m benchmarks.speed.nequip -o FOLDER [--presets S M] [--repeats 5] [--docs]

`make nequip` installs nequip. Both have the layers, degrees, channels, radial network and cutoff (5 A) of a preset, and
random weights; nequip's elements have an embedding of 32 numbers, ours a matrix each. Energy, forces and stress of
silicon in float32, one thread, neighbour lists made beforehand; time is that of the processor. *nequip, compiled* is
the package that `nequip-compile --mode aotinductor` makes (a compiler is needed, and some minutes for each preset,
once: FOLDER keeps it). *exact* computes radial functions, which our program otherwise reads from tables.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import torch

from atomsml.graph import AtomicGraph
from atomsml.potentials.nequip import NequIP, NequIPConfig
from benchmarks.shared.peers import NEQUIP, Program, sustained, take_turns, versions
from benchmarks.shared.reporting import DOCS, processor, replace_section, spread, table
from benchmarks.shared.workloads import AVG_NUM_NEIGHBORS, Structure

SECTION = "nequip"
PRESETS: dict[str, dict[str, object]] = {
    "S": {"num_layers": 2, "lmax": 1, "channels": (128, 64)},
    "M": {"num_layers": 4, "lmax": 2, "channels": (128, 64, 32)},
    "L": {"num_layers": 6, "lmax": 3, "channels": (128, 64, 32, 32)},
}
CELLS = (2, 4)  # along each axis: 64 and 512 atoms
PROGRAMS = ("atomsml", "atomsml, exact", "nequip, eager", "nequip, compiled")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="for compiled packages")
    parser.add_argument("--presets", nargs="+", choices=list(PRESETS), default=["S", "M"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--docs", action="store_true", help="put the table into docs/speed.md as well")
    arguments = parser.parse_args()
    if not NEQUIP.exists():
        parser.error("nequip is not installed; run `make nequip`")
    arguments.output.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    rows = [
        measure(preset, cells, arguments.output, arguments.repeats) for preset in arguments.presets for cells in CELLS
    ]
    ours, theirs = versions(Path(sys.executable), ("atomsml", "torch")), versions(NEQUIP, ("nequip", "e3nn", "torch"))
    header = ["preset", "atoms", *PROGRAMS, "eager / atomsml", "compiled / atomsml"]
    text = f"{processor()}, one thread; {ours}; beside {theirs}. Microseconds per atom.\n\n{table(header, rows)}"
    print(text)
    if arguments.docs:
        replace_section(DOCS / "speed.md", SECTION, text)


def measure(preset: str, cells: int, folder: Path, repeats: int) -> list[str]:
    """A row: all programs in turns."""
    structure = Structure("silicon", cells)
    peer: list[str | Path] = [NEQUIP, "-W", "ignore", "-m", "benchmarks.shared.peer_nequip", preset, str(cells)]
    with ExitStack() as stack:
        peers = [
            stack.enter_context(Program([*peer, *more], threads=1))
            for more in ((), ("--package", folder / f"{preset}.nequip.pt2"))
        ]
        steps = [*our_steps(preset, structure), *(partial(program.ask, "seconds") for program in peers)]
        turns = take_turns(steps, repeats, warm_up=1)
    times = [[1e6 * value / structure.atoms for value in of_step] for of_step in turns]
    ratios = [spread([a / b for a, b in zip(x, times[0], strict=True)]) for x in times[2:]]
    print(preset, structure.atoms, *map(spread, times), flush=True)
    return [preset, str(structure.atoms), *map(spread, times), *ratios]


def our_steps(preset: str, structure: Structure) -> list[Callable[[], float]]:
    """Our program with tables, and without."""
    torch.manual_seed(0)
    config = NequIPConfig(
        elements=structure.elements,
        radial_mlp=(128,),
        avg_num_neighbors=AVG_NUM_NEIGHBORS,
        **PRESETS[preset],  # type: ignore[arg-type]
    )
    potential = NequIP(config).requires_grad_(False)
    graph = AtomicGraph.from_ase(*structure.systems()).with_neighbors(config.cutoff).to(dtype=torch.float32)
    predictors = [potential.predictor(exact=exact) for exact in (False, True)]
    runs = [partial(predict, graph, forces=True, stress=True) for predict in predictors]
    return [partial(sustained, run, time.process_time) for run in runs]


if __name__ == "__main__":
    main()
