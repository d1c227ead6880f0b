"""Whether universal potentials hold: elements and random binaries relax without explosion, pairs of atoms repel.

    python -m benchmarks.accuracy.universal_robustness DATA -o FOLDER [--models NAME FILE chgnet ...] [--docs]

DATA is the folder of published sets; models are those of `benchmarks.accuracy.universal`. Parts:

    elements  the MatPES reference crystal of each of 89 elements, strained by up to 3 % and rattled by 0.05 A
    binaries  random pairs of elements as rock salt, caesium chloride or zinc blende with bonds as long as the sum of
              the covalent radii, rattled by 0.1 A
    pairs     two atoms of any two elements from 0.3 A to 5 A

Crystals are relaxed with their cells for at most 200 steps, and the first that is true of the end is counted: energy
or forces are not finite; the energy is more than 10 eV/atom below that of the elements in PBE; two atoms are closer
than 0.6 of their covalent radii; the volume differs from that of the elements by more than a factor of three; out of
steps, or at a saddle point.

A pair repels where its energy falls with the distance; it has a hole where its energy is lowest below half of the
radii. What is found is kept in FOLDER, and a stopped run goes on from there. `--docs` puts the table into
docs/universal.md and twelve pairs into docs/images/universal_diatomics.png.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import ase
import numpy as np
import torch
from ase.build import bulk
from ase.data import atomic_numbers, covalent_radii
from ase.neighborlist import neighbor_list
from numpy.typing import NDArray
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor

from atomsml.simulate.relax import RelaxSettings, relax
from benchmarks.shared.reporting import DOCS, processor, replace_section, table
from benchmarks.shared.universal_models import MODELS, Model, Record, Rows, chosen, kept

RELAX = RelaxSettings(fmax=0.05, steps=200, cell=True)
DEEPEST = 10.0  # eV/atom below the elements: no compound is bound by half of it
CLOSEST = 0.6  # of the sum of covalent radii
SWOLLEN = 3.0  # how many times smaller or larger than that of the elements a volume may be
# prototype of ASE, cubic lattice constant in units of the bond length, cells
PROTOTYPES = {
    "rocksalt": (2.0, (1, 1, 1)),
    "cesiumchloride": (2 / 3**0.5, (2, 2, 1)),
    "zincblende": (4 / 3**0.5, (1, 1, 1)),
}
ENDS = ("converged", "not finite", "energy too low", "atoms too close", "volume", "out of steps", "energy rose")
DISTANCES = np.concatenate([np.arange(0.3, 2.0, 0.02), np.arange(2.0, 5.0, 0.05)])  # A
NOISE = 1e-3  # eV: a rise below this is none
DRAWN = ("H-H", "C-C", "O-O", "N-O", "Na-Cl", "Fe-Fe", "Cu-O", "He-He", "Cs-Cs", "C-S", "H-Pm", "U-O")

Curve = NDArray[np.float64]
Elements = dict[str, tuple[ase.Atoms, float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=tuple(PARTS))
    parser.add_argument("--binaries", type=int, nargs="+", default=[300], help="for all models, or a number for each")
    parser.add_argument(
        "--pairs", type=int, nargs="+", default=[4005], help="the same; CHGNet takes seconds for a pair"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--docs", action="store_true", help="put table and picture into the documentation")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    models = [Model(name) for name in arguments.models]
    crystals = read_elements(arguments.data / "references" / "elemental" / "MatPES-PBE-Element-Refs.json.gz")
    if {len(arguments.binaries), len(arguments.pairs)} - {1, len(models)}:
        parser.error("--binaries and --pairs take one number, or one for each model")
    counts = {"elements": len(crystals), "binaries": arguments.binaries, "pairs": arguments.pairs}
    found: dict[str, Rows] = {model.label: {} for model in models}
    for part in arguments.only:
        for model, count in zip(models, np.broadcast_to(counts[part], len(models)), strict=True):
            found[model.label] |= PARTS[part](model, crystals, int(count), arguments.output)
    names = list(found[models[0].label])
    text = table(["", *found], [[name, *(rows[name] for rows in found.values())] for name in names])
    text = f"{processor()}, one thread, torch {torch.__version__}.\n\n{text}"
    print(json.dumps(found, indent=1) if arguments.json else text)
    if arguments.docs:
        replace_section(DOCS / "universal.md", "robustness", text)
        draw(DOCS / "images" / "universal_diatomics.png", models)


def read_elements(path: Path) -> Elements:
    """Symbol -> the crystal and its energy in PBE, eV/atom."""
    entries = json.loads(gzip.decompress(path.read_bytes()))
    return {
        symbol: (
            AseAtomsAdaptor.get_atoms(Structure.from_dict(entry["structure"]), msonable=False),
            float(entry["energy_per_atom"]),
        )
        for symbol, entry in sorted(entries.items(), key=lambda item: atomic_numbers[item[0]])
    }


def elements(model: Model, crystals: Elements, count: int, folder: Path) -> Rows:
    items = list(crystals)[:count]
    records = kept(folder / f"elements.{model.key}.jsonl", items, partial(relax_element, model, crystals))
    return ends("elements", records)


def relax_element(model: Model, crystals: Elements, symbol: str) -> Record:
    atoms, random = crystals[symbol][0].copy(), np.random.default_rng(atomic_numbers[symbol])
    strain = random.uniform(-0.03, 0.03, (3, 3))
    atoms.set_cell(atoms.cell @ (np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
    atoms.positions += random.normal(0, 0.05, atoms.positions.shape)
    return {"name": symbol} | how_it_ends(model, atoms, crystals)


def binaries(model: Model, crystals: Elements, count: int, folder: Path) -> Rows:
    items = chosen(list(itertools.combinations(crystals, 2)), count)
    records = kept(folder / f"binaries.{model.key}.jsonl", items, partial(relax_binary, model, crystals))
    return ends("binaries", records)


def relax_binary(model: Model, crystals: Elements, pair: tuple[str, str]) -> Record:
    numbers = [atomic_numbers[symbol] for symbol in pair]
    random = np.random.default_rng(numbers)
    prototype = str(random.choice(list(PROTOTYPES)))
    per_bond, cells = PROTOTYPES[prototype]
    atoms = bulk("".join(pair), prototype, a=per_bond * float(covalent_radii[numbers].sum()), cubic=True) * cells
    atoms.positions += random.normal(0, 0.1, atoms.positions.shape)
    return {"name": f"{''.join(pair)} {prototype}"} | how_it_ends(model, atoms, crystals)


def how_it_ends(model: Model, atoms: ase.Atoms, crystals: Elements) -> Record:
    """Relax a crystal in place: one of ENDS, and what it rests on."""
    parts = [crystals[symbol] for symbol in atoms.symbols]
    volume = sum(crystal.get_volume() / len(crystal) for crystal, _ in parts)
    atoms.calc = model.calculator
    try:
        end = relax(atoms, RELAX)
    except ValueError as error:  # atoms in one place, a cell that vanished or left no atom a neighbour
        return {"end": "not finite", "why": str(error)}
    if end.reason == "energy or forces are not finite":
        return {"end": "not finite", "why": end.reason}
    below = float(np.mean([energy for _, energy in parts])) - end.energy / len(atoms)
    measured = {"steps": end.step, "below": below, "volume": atoms.get_volume() / volume, "closest": closest(atoms)}
    if below > DEEPEST:
        reason = "energy too low"
    elif measured["closest"] < CLOSEST:
        reason = "atoms too close"
    elif not 1 / SWOLLEN < measured["volume"] < SWOLLEN:
        reason = "volume"
    else:
        reason = end.reason
    return {"end": reason, **measured}


def closest(atoms: ase.Atoms) -> float:
    """The smallest distance in units of the sum of the covalent radii; infinite where all are farther than three."""
    i, j, distances = neighbor_list("ijd", atoms, 3 * covalent_radii[atoms.numbers])
    return float((distances / covalent_radii[atoms.numbers[[i, j]]].sum(0)).min()) if len(distances) else np.inf


def ends(about: str, records: Sequence[Record]) -> Rows:
    """How many ended in each way, and the first of those that should not have."""
    rows = {}
    for end in ENDS:
        names = [record["name"] for record in records if record["end"] == end]
        shown = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
        count = f"{len(names)} of {len(records)}" if end == "converged" else f"{len(names)}"
        rows[f"{about}: {end}"] = f"{count} ({shown})" if names and end != "converged" else count
    return rows


def pairs(model: Model, crystals: Elements, count: int, folder: Path) -> Rows:
    """How many pairs of elements repel at short range, and how many have a hole there."""
    items = chosen(list(itertools.combinations_with_replacement(crystals, 2)), count)
    records = kept(folder / f"pairs.{model.key}.jsonl", items, partial(repulsion, model))
    counts = {
        "pairs that repel up to 0.5 of their radii": sum(record["rise 0.5"] < NOISE for record in records),
        "pairs that repel up to 0.6 of their radii": sum(record["rise 0.6"] < NOISE for record in records),
        "pairs with a hole below 0.5 of their radii": sum(record["lowest"] < 0.5 for record in records),
    }
    return {about: f"{count:,} of {len(records):,}" for about, count in counts.items()}


def repulsion(model: Model, pair: tuple[str, str]) -> Record:
    """By how much the energy rises with the distance, eV, and at which share of the radii it is lowest."""
    energies = pair_energies(model, pair)
    radii = float(sum(covalent_radii[atomic_numbers[symbol]] for symbol in pair))
    rises = np.diff(energies, prepend=np.inf)  # of the first there is none
    highest = {f"rise {share}": float(rises[radii * share >= DISTANCES].max(initial=0.0)) for share in (0.5, 0.6)}
    return {"name": "-".join(pair), **highest, "lowest": float(DISTANCES[energies.argmin()] / radii)}


def pair_energies(model: Model, pair: Sequence[str]) -> Curve:
    """Energies (distances,) of two atoms, eV, less that at the largest distance."""
    energies = model.energies([ase.Atoms(pair, [[0, 0, 0], [0, 0, r]]) for r in DISTANCES])
    return np.asarray(energies - energies[-1])


def draw(path: Path, models: Sequence[Model]) -> None:
    """Twelve pairs; below the dotted line atoms are closer than 0.6 of their radii."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(3, 4, figsize=(12, 8), layout="constrained")
    for axis, name in zip(axes.flat, DRAWN, strict=True):
        pair = name.split("-")
        axis.axhline(0, color="0.8", linewidth=1)
        axis.axvline(
            0.6 * sum(covalent_radii[atomic_numbers[s]] for s in pair), color="0.5", linestyle=":", linewidth=1
        )
        for i, model in enumerate(models):
            axis.plot(DISTANCES, pair_energies(model, pair), color=f"C{i}", label=model.label)
        axis.set(title=name, ylim=(-14, 20), xlim=(0.2, 5))
    axes[0, 0].legend(fontsize=8)
    figure.supxlabel("distance (A)")
    figure.supylabel("energy (eV)")
    figure.savefig(path, dpi=110)


PARTS = {"elements": elements, "binaries": binaries, "pairs": pairs}


if __name__ == "__main__":
    main()
