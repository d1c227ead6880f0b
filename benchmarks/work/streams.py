"""Streams of different structures by AtomsMLCalculator: one call each, beside a repeated call on each with moved atoms.

    python -m benchmarks.work.streams --data FOLDER [--molecules 500] [--crystals 200] [--peer FOLDER] [--docs]

FOLDER has molecules_static/smiles/qm9_smiles.csv.gz and crystals/mp_20_biternary.csv.gz. A call is the energy, then the
forces, then of crystals the stress. CPU time of one thread, in milliseconds; kernels are compiled beforehand, and the
calculator is new: what each structure's elements need is part of its first call.

With --peer, AtomsMLCalculator and MACECalculator of mace-torch take turns, structure by structure, with the same models
of random weights (MACE, 128x0e, lmax 3, 5 A; of eight and of 89 elements), in float32. FOLDER keeps these models.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median

import ase.io
import numpy as np
import pandas as pd
import torch
from ase import Atoms

from atomsml import AtomicGraph, AtomsMLCalculator
from atomsml.potential import Potential
from atomsml.potentials.mace import MACE, MACEConfig
from benchmarks.shared.calls import call
from benchmarks.shared.model_files import both_files
from benchmarks.shared.peers import Program, peer_python, take_turns
from benchmarks.shared.reporting import DOCS, README, SPEED, machine, replace_row, replace_section, table, three_digits
from benchmarks.shared.workloads import ELEMENTS, ORGANIC, UNIVERSAL, Model

MOVED = 0.01  # A, standard deviation of each coordinate
REPEATS = 4  # calls on the same structure; the first has a list of its own to make, and does not count


def molecules(data: Path, count: int) -> list[Atoms]:
    """From SMILES of QM9, the first neutral ones that can be embedded."""
    found: list[Atoms] = []
    for smiles in pd.read_csv(data / "molecules_static/smiles/qm9_smiles.csv.gz")["smiles"]:
        if len(found) == count:
            break
        if "+]" in smiles or "-]" in smiles:
            continue
        with suppress(ValueError):
            found.append(AtomicGraph.from_smiles(smiles).to_ase())
    return found


def crystals(data: Path, count: int) -> list[Atoms]:
    """The first ones of the 89 elements."""
    cif = pd.read_csv(data / "crystals/mp_20_biternary.csv.gz", nrows=2 * count)["cif"]
    found = (ase.io.read(io.StringIO(text), format="cif") for text in cif)
    return list(islice((atoms for atoms in found if set(atoms.numbers) <= set(ELEMENTS)), count))


def wide_model() -> Potential:
    """128x0e for 89 elements, with random weights."""
    torch.manual_seed(0)
    size = {**MACE.sizes["large"], "hidden_lmax": 0}
    return MACE(MACEConfig(elements=ELEMENTS, avg_num_neighbors=40.0, **size))


def measure(make: Callable[[], AtomsMLCalculator], stream: Sequence[Atoms]) -> list[str]:
    """Mean of one call each, of repeated calls, their ratio; and the atoms of a structure."""
    warm = make()
    for atoms in stream[:3]:
        call(warm, atoms.copy())
    calculator, rng = make(), np.random.default_rng(0)
    once = [call(calculator, atoms.copy()) for atoms in stream]
    repeated = []
    for atoms in stream:
        again, taken = atoms.copy(), []
        for _ in range(REPEATS):
            again.positions += rng.normal(0, MOVED, again.positions.shape)
            taken.append(call(calculator, again))
        repeated.append(median(taken[1:]))
    ratio = np.mean(once) / np.mean(repeated)
    atoms_each = np.mean([len(atoms) for atoms in stream])
    return [f"{atoms_each:.1f}", three_digits(np.mean(once)), three_digits(np.mean(repeated)), f"{ratio:.2f}"]


def beside_mace_torch(model: Model, stream: Sequence[Atoms], folder: Path) -> tuple[float, float]:
    """Mean milliseconds of one call each, by atomsml and by mace-torch, in turns."""
    ours, official = both_files(model, folder)
    structures = folder / f"{len(stream)}-{model.file}.extxyz"
    ase.io.write(structures, [Atoms(a.numbers, a.positions, cell=a.cell, pbc=a.pbc) for a in stream])
    with ExitStack() as stack:
        programs = [
            stack.enter_context(Program([python, "-W", "ignore", "-m", "benchmarks.shared.calls", *rest], threads=1))
            for python, *rest in (
                (sys.executable, "atomsml", ours, structures),
                (peer_python(), "mace-torch", official, structures),
            )
        ]
        taken = take_turns([partial(program.ask, "next") for program in programs], len(stream), warm_up=0)
    return float(np.mean(taken[0])), float(np.mean(taken[1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--molecules", type=int, default=500)
    parser.add_argument("--crystals", type=int, default=200)
    parser.add_argument("--peer", type=Path, metavar="FOLDER", help="mace-torch as well, with models in this folder")
    parser.add_argument("--docs", action="store_true", help="put the tables into docs/speed.md and the README")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    wide = wide_model()
    some_molecules, some_crystals = (
        f(arguments.data, n) for f, n in ((molecules, arguments.molecules), (crystals, arguments.crystals))
    )
    streams: dict[str, tuple[Callable[[], AtomsMLCalculator], list[Atoms]]] = {
        "molecules, organic-xtb": (lambda: AtomsMLCalculator("organic-xtb"), some_molecules),
        "crystals, universal-small": (lambda: AtomsMLCalculator("universal-small"), some_crystals),
        "crystals, MACE 128x0e of 89 elements": (lambda: AtomsMLCalculator(wide), some_crystals),
    }
    rows = [[name, *measure(*stream)] for name, stream in streams.items()]
    text = table(["stream", "atoms each", "one call each, ms", "repeated call, ms", "ratio"], rows)
    if arguments.peer is not None:
        peers = {f"{len(some_molecules)} molecules": (ORGANIC, some_molecules)}
        peers[f"{len(some_crystals)} crystals of {len(ELEMENTS)} elements"] = (UNIVERSAL, some_crystals)
        lines = [row(name, *beside_mace_torch(*each, arguments.peer)) for name, each in peers.items()]
        text += "\n" + table(["one call each, MACE 128x0e", "atomsml", "mace-torch", "ratio"], lines)
        for line in lines if arguments.docs else ():
            replace_row(README, SPEED, readme_row(*line))
    print(text)
    if arguments.docs:
        replace_section(DOCS / "speed.md", "streams", f"{machine()}, one thread.\n\n{text}")


def readme_row(stream: str, ours: str, theirs: str, ratio: str) -> list[str]:
    return [f"different structures, one call each: {stream}", ours, f"mace-torch: {theirs}", ratio, "`work.streams`"]


def row(name: str, ours: float, theirs: float) -> list[str]:
    return [name, f"{three_digits(ours)} ms", f"{three_digits(theirs)} ms", f"{theirs / ours:.1f}"]


if __name__ == "__main__":
    main()
