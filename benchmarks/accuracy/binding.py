"""Binding curves of the S66x8 dimers and of pairs of atoms by an embedded model, beside GFN2-xTB.

    python -m benchmarks.accuracy.binding DATA/molecules_ff/s66x8/s66x8.extxyz.xz [MODEL] [--docs]

The binding energy of a dimer is its energy less those of its two molecules as they are in it: E(AB) - E(A) - E(B), by
the model and by tblite, at the eight separations of Rezac, Riley and Hobza, J. Chem. Theory Comput. 7, 2427 (2011), of
which the third is the equilibrium of their reference. A point is spuriously repulsive where the model repels by more
than 0.2 kcal/mol and GFN2-xTB attracts. `--docs` draws the curves to docs/images/binding.png.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from pathlib import Path

import ase
import ase.units
import numpy as np
from ase.data import chemical_symbols, covalent_radii
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components
from tblite.ase import TBLite

from atomsml import AtomicGraph, evaluate, load, predict
from atomsml.io import bond_graph
from benchmarks.shared.reporting import DOCS, read_frames, table

SCALES = (0.90, 0.95, 1.00, 1.05, 1.10, 1.25, 1.50, 2.00)
EQUILIBRIUM = SCALES.index(1.0)
KCAL = ase.units.kcal / ase.units.mol
REPULSIVE = 0.2  # kcal/mol

Curve = NDArray[np.float64]
Energies = Callable[[list[ase.Atoms]], list[float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("model", nargs="?", default="organic-xtb")
    parser.add_argument("--docs", action="store_true", help="draw docs/images/binding.png")
    arguments = parser.parse_args()
    dimers = read_dimers(arguments.data)
    reference = {name: binding(frames, xtb_energies) for name, frames in dimers.items()}
    found = {name: binding(frames, model_energies(arguments.model)) for name, frames in dimers.items()}
    print(f"{arguments.model}: {len(dimers)} dimers, error of the binding energy against GFN2-xTB, kcal/mol")
    errors = np.array([found[name] - reference[name] for name in dimers])
    rows = [
        [f"{scale:.2f}", f"{np.abs(e).mean():.2f}", f"{e.mean():+.2f}", f"{np.abs(e).max():.2f}"]
        for scale, e in zip(SCALES, errors.T, strict=True)
    ]
    print(table(["separation", "mean absolute", "mean", "largest"], rows))
    worst = sorted(dimers, key=lambda name: -abs(found[name] - reference[name])[EQUILIBRIUM])
    for name in worst[:5]:
        print(
            f"{name} {dimers[name][0].symbols}: {found[name][EQUILIBRIUM]:.2f} for {reference[name][EQUILIBRIUM]:.2f}"
        )
    wrong = sum(int(((found[name] > REPULSIVE) & (reference[name] < 0)).sum()) for name in dimers)
    print(f"spuriously repulsive: {wrong} of {errors.size} points")
    print_collisions(arguments.model)
    if arguments.docs:
        draw(DOCS / "images" / "binding.png", dimers, reference, found)


def read_dimers(path: Path) -> dict[str, list[ase.Atoms]]:
    """Name of a dimer -> its geometries, the closest first."""
    dimers: dict[str, list[ase.Atoms]] = {}
    for atoms in read_frames(path):
        dimers.setdefault(atoms.info["dimer"], []).append(atoms)
    return {name: sorted(frames, key=lambda atoms: int(atoms.info["point"])) for name, frames in dimers.items()}


def binding(frames: list[ase.Atoms], energies: Energies) -> Curve:
    """E(AB) - E(A) - E(B) of every geometry, kcal/mol."""
    pairs = np.array(sorted(bond_graph(frames[-1]))).T
    adjacency = np.zeros((len(frames[-1]),) * 2)
    adjacency[pairs[0], pairs[1]] = 1
    count, molecule = connected_components(adjacency, directed=False)
    assert count == 2, "a dimer has two molecules"
    parts = (molecule >= 0, molecule == 0, molecule == 1)
    whole, a, b = (np.array(energies([atoms[part] for atoms in frames])) for part in parts)
    return np.asarray((whole - a - b) / KCAL)


def xtb_energies(structures: list[ase.Atoms]) -> list[float]:
    energies = []
    for atoms in structures:
        atoms.calc = TBLite(method="GFN2-xTB", accuracy=0.1, verbosity=0)
        energies.append(float(atoms.get_potential_energy()))
    return energies


def model_energies(name: str) -> Energies:
    potential = load(name)

    def energies(structures: list[ase.Atoms]) -> list[float]:
        graphs = [AtomicGraph.from_ase(ase.Atoms(atoms.numbers, atoms.positions)) for atoms in structures]
        return [float(prediction.energy) for prediction in predict(potential, graphs, forces=False)]

    return energies


def print_collisions(name: str) -> None:
    """Two atoms of every pair of elements from 0.55 of their bond length to 0.002 A: their energy may only rise."""
    potential = load(name)
    falling = []
    for z, w in itertools.combinations_with_replacement(potential.elements, 2):
        distances = np.geomspace(0.55 * (covalent_radii[z] + covalent_radii[w]), 2e-3, 200)
        graphs = [AtomicGraph.from_ase(ase.Atoms([z, w], [[0, 0, 0], [0, 0, r]])) for r in distances]
        together = AtomicGraph.from_list(graphs).with_neighbors(potential.cutoff)
        energies = evaluate(potential, together, forces=False).energy.detach().numpy()  # radicals too
        if (np.diff(energies) <= 0).any():
            first = int(np.flatnonzero(np.diff(energies) <= 0)[0])
            falling.append(f"{chemical_symbols[z]}-{chemical_symbols[w]} at {distances[first]:.3g} A")
    pairs = len(potential.elements) * (len(potential.elements) + 1) // 2
    print(f"colliding atoms: the energy falls in {len(falling)} of {pairs} pairs of elements", *falling[:10], sep="; ")


def draw(path: Path, dimers: dict[str, list[ase.Atoms]], reference: dict[str, Curve], found: dict[str, Curve]) -> None:
    """Every dimer's two curves against the distance of the centres of its molecules in units of the equilibrium's."""
    import matplotlib.pyplot as plt

    chosen = sorted(dimers, key=lambda name: reference[name][EQUILIBRIUM])[:: max(1, len(dimers) // 11)][:12]
    figure, axes = plt.subplots(3, 4, figsize=(12, 8), sharex=True, layout="constrained")
    for axis, name in zip(axes.flat, chosen, strict=True):
        axis.axhline(0, color="0.8", linewidth=1)
        axis.plot(SCALES, reference[name], "o-", color="0.4", label="GFN2-xTB")
        axis.plot(SCALES, found[name], "s--", color="C0", label="model")
        axis.set_title(f"{name} {dimers[name][0].get_chemical_formula()}", fontsize=9)
    axes[0, 0].legend()
    figure.supxlabel("separation / equilibrium")
    figure.supylabel("binding energy (kcal/mol)")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
