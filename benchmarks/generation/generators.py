"""All generators of molecules beside one another, by all measures, in one table.

    python -m benchmarks.generation.generators FOLDER --data qm9_xtb.h5 flow=qm9-flow edm=runs/edm/model.safetensors
        [-n 1000] [--relaxed 200] [--threads 1] [--docs]

Each generator is a name and a model, an embedded one or a file; it draws the molecules of seed 0 with the steps and the
sampler that suit it. The column `data` has as many molecules of the data, taken at random with a fixed seed. None is
chosen or left out. Measures are those of `atomsml evaluate molecules` (suites edm, strict and composition), with 95 %
confidence intervals; strain is by GFN2-xTB (tblite), of the first valid connected molecules. Novelty and composition
compare with all of the data. Time is that of one processor and memory the most that was held, of the first hundred
molecules, drawn in a process of their own.

FOLDER/NAME/ gets the molecules in parts of a hundred, FOLDER/NAME.json the numbers, FOLDER/NAME.png the first 36; what
is there is not made again. `--docs` puts the table and the pictures of FOLDER in docs/generators/comparison.md.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import ase
import h5py
import numpy as np
import torch
from PIL import Image
from rdkit import Chem

from atomsml.cli.generate.picture import draw_molecules
from atomsml.cli.generate.records import Generated
from atomsml.generative.core.metrics import SuiteResult, fraction, quantile
from atomsml.generative.core.sampling import sample_seed
from atomsml.generative.molecules.data import hdf5_molecules
from atomsml.generative.molecules.gfn2 import relax_gfn2
from atomsml.generative.molecules.metrics.composition import FREQUENT, composition, factor
from atomsml.generative.molecules.metrics.edm import edm
from atomsml.generative.molecules.metrics.evaluate import Reference, profile_of
from atomsml.generative.molecules.metrics.groups import FEATURES
from atomsml.generative.molecules.metrics.perception import perceive, perceived_mol
from atomsml.generative.molecules.metrics.strict import strict
from atomsml.generative.molecules.model import MoleculeModel
from atomsml.generative.molecules.modelfile import load_generator
from atomsml.generative.molecules.sampling import sample_molecules
from atomsml.io import OutputSet
from benchmarks.shared.reporting import DOCS, processor, replace_section, table

SEED = 0
PART = 100
DATA = "data"
COLOURS = 24  # of a picture of formulas
MEASURES = {  # name in a JSON: what the table calls it
    "atom_stability": "EDM: stable atoms, %",
    "molecule_stability": "EDM: stable molecules, %",
    "validity": "EDM: valid, %",
    "validity_x_uniqueness": "EDM: valid x unique, %",
    "valid_connected": "strict: valid and in one piece, %",
    "valid_uncharged": "strict: valid without charges, %",
    "unique": "strict: different, of the valid, %",
    "novel": "strict: not in the data, of the different, %",
    "distance": "composition: distance, %",
    "mean_factor": "composition: mean factor of the frequent features",
    "worst_factor": "composition: worst factor",
    "strain_median": "GFN2-xTB: median strain, kcal/mol",
    "bonds_kept": "GFN2-xTB: keep their bonds, %",
}
COSTS = {
    "steps": "steps",
    "evaluations": "evaluations of networks",
    "seconds": "processor time for a molecule, s",
    "mebibytes": "memory, MiB",
}


def part_of(folder: Path, part: int) -> Path:
    return folder / f"{part:03}.npz"


def write_part(path: Path, images: Sequence[ase.Atoms]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sizes = [len(atoms) for atoms in images]
    numbers = np.concatenate([atoms.numbers for atoms in images])
    np.savez(path, sizes=sizes, numbers=numbers, positions=np.concatenate([atoms.positions for atoms in images]))


def read_part(path: Path) -> list[ase.Atoms]:
    with np.load(path) as found:
        ends = np.cumsum(found["sizes"])[:-1]
        rows = zip(np.split(found["numbers"], ends), np.split(found["positions"], ends), strict=True)
        return [ase.Atoms(numbers, positions) for numbers, positions in rows]


def draw_part(model_name: str, folder: Path, part: int, size: int, threads: int) -> dict[str, Any]:
    """Draw and write a part; what it cost for each of its molecules. In a process of its own."""
    torch.set_num_threads(threads)
    model = load_generator(model_name)
    assert isinstance(model, MoleculeModel)
    started = time.process_time()
    requests = model.requests([sample_seed(SEED, part * PART + i) for i in range(size)])
    steps, sampler = model.default_steps, model.default_sampler
    drawn, calls = dict[int, ase.Atoms](), dict[str, float]()
    for progress in sample_molecules(model, requests, model.batches(requests), steps, sampler):
        drawn |= progress.drawn
        for network, count in progress.evaluations.items():
            calls[network] = calls.get(network, 0) + count * len(progress.drawn) / size
    seconds = (time.process_time() - started) / size
    write_part(part_of(folder, part), [drawn[place] for place in range(size)])
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # kiB on Linux
    evaluations = {network: round(count, 1) for network, count in calls.items() if count}
    return {"steps": f"{steps} {sampler}", "evaluations": evaluations, "seconds": seconds, "mebibytes": memory}


def drawn(model: str, folder: Path, number: int, threads: int) -> tuple[list[ase.Atoms], dict[str, Any]]:
    """All molecules, and what those of the first part cost if it was drawn now."""
    images, costs = list[ase.Atoms](), dict[str, Any]()
    for part, start in enumerate(range(0, number, PART)):
        path = part_of(folder, part)
        size = min(PART, number - start)
        if not path.exists() or len(read_part(path)) != size:
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                cost = pool.submit(draw_part, model, folder, part, size, threads).result()
            costs = cost if part == 0 else costs
            print(f"{folder.name}: {start + size} of {number} molecules, {cost['seconds']:.2f} s each", flush=True)
        images += read_part(path)
    return images, costs


def some_of(data: Path, number: int) -> list[ase.Atoms]:
    """At random, always the same."""
    numbers, places = (list(rows) for rows in hdf5_molecules(data))
    chosen = np.random.default_rng(SEED).permutation(len(numbers))[:number]
    return [ase.Atoms(numbers[i], places[i]) for i in chosen]


def plain_smiles(data: Path) -> frozenset[str]:
    """As perception writes them: canonical, without stereochemistry."""
    with h5py.File(data) as file:
        mols = [Chem.MolFromSmiles(text) for text in file["smiles"].asstr()[:]]
    return frozenset(Chem.MolToSmiles(mol, isomericSmiles=False) for mol in mols)


def judged(images: Sequence[ase.Atoms], reference: Reference, relaxed: int) -> dict[str, Any]:
    """[value, low, high] of all measures, and which feature is the farthest from its share."""
    perceived = list(perceive(images))
    suites = edm(images), strict(images, perceived, reference.smiles)
    good = [i for i, failure in enumerate(suites[1].failures) if not failure]
    third = composition([perceived_mol(images[i], perceived[i]) for i in good], profile_of(reference, []))
    metrics = {name: metric for suite in (*suites, third) for name, metric in suite.metrics.items()}
    done = list(relax_gfn2([images[i] for i in good[:relaxed]]))
    strains = np.array([one.strain for one in done if one.converged])
    metrics["strain_median"] = quantile(strains, 0.5, "kcal/mol")
    metrics["bonds_kept"] = fraction(sum(one.converged and one.bonds_kept for one in done), len(done))
    return {
        "molecules": len(images),
        "relaxed": len(done),
        "versions": [suite.version for suite in (*suites, third)],
        "worst": worst(third),
        "shares": {name: [third.types[name].value, third.reference[name].value] for name in FEATURES},
        **{name: [metric.value, metric.low, metric.high] for name, metric in metrics.items()},
    }


def worst(found: SuiteResult) -> str:
    """The frequent feature whose share is the farthest from that of the reference, and both shares."""
    frequent = [name for name in FEATURES if found.reference[name].value >= FREQUENT]
    name = max(frequent, key=lambda name: factor(found.types[name], found.reference[name]))
    return f"{name} {100 * found.types[name].value:.1f} of {100 * found.reference[name].value:.1f} %"


def draw_picture(path: Path, images: Sequence[ase.Atoms]) -> None:
    """The first 36, as they come."""
    first = list(images[:36])
    perceived = list(perceive(first))
    reasons = strict(first, perceived).failures
    rows = enumerate(zip(first, perceived, reasons, strict=True))
    shown = [Generated(i, sample_seed(SEED, i), atoms, found, reason) for i, (atoms, found, reason) in rows]
    with OutputSet([path]) as files:
        draw_molecules(files, path, shown)


def row_of(
    path: Path,
    make: Callable[[], tuple[list[ase.Atoms], dict[str, Any]]],
    reference: Reference,
    number: int,
    relaxed: int,
) -> dict[str, Any]:
    """The numbers of a generator, measured now, or before and in `path`."""
    if path.exists():
        known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if known["molecules"] == number:
            return known
    images, costs = make()
    draw_picture(path.with_suffix(".png"), images)
    found = {**judged(images, reference, relaxed), **costs}
    path.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return found


def cell(row: Mapping[str, Any], name: str) -> str:
    """A value with its interval, a cost, or a dash where there is none."""
    value = row.get(name)
    if value is None or (isinstance(value, list) and not np.isfinite(value[0])):
        return "-"
    if isinstance(value, list):
        percent = MEASURES[name].endswith("%")
        middle, low, high = (f"{100 * x:.1f}" if percent else f"{x:.2f}" for x in value)
        return f"{middle} ({low}-{high})"
    if isinstance(value, dict):
        return ", ".join(f"{network} {count:g}" for network, count in value.items())
    return f"{value:.2f}" if name == "seconds" else f"{value:.0f}" if isinstance(value, float) else str(value)


def tables(rows: Mapping[str, dict[str, Any]]) -> str:
    """A column for each generator: measures and costs, then the shares of molecules that have each frequent feature."""
    header = ["", *rows]
    lines = [[label, *(cell(row, name) for row in rows.values())] for name, label in MEASURES.items()]
    place = list(MEASURES).index("worst_factor") + 1
    lines.insert(place, ["composition: where it is", *(row["worst"] for row in rows.values())])
    lines += [[label, *(cell(row, name) for row in rows.values())] for name, label in COSTS.items()]
    shares = next(iter(rows.values()))["shares"]
    features = [
        [name, f"{100 * there:.1f}", *(f"{100 * row['shares'][name][0]:.1f}" for row in rows.values())]
        for name, (_, there) in shares.items()
        if there >= FREQUENT
    ]
    return f"{table(header, lines)}\n{table(['molecules with, %', 'all data', *rows], features)}"


def write_docs(rows: Mapping[str, dict[str, Any]], folder: Path, about: str) -> None:
    page = DOCS / "generators" / "comparison.md"
    pictures = []
    for name in rows:
        with Image.open(folder / f"{name}.png") as picture:  # few colours make a small file
            picture.convert("RGB").quantize(COLOURS).save(DOCS / "images" / f"drawn-{name}.png", optimize=True)
        pictures.append(f"**{name}**\n\n![36 molecules of {name}](../images/drawn-{name}.png)")
    replace_section(page, "generators", f"{tables(rows)}\n{about}")
    replace_section(page, "pictures", "\n\n".join(pictures))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("models", nargs="*", metavar="NAME=MODEL")
    parser.add_argument("--data", type=Path, required=True, help="HDF5 file with the column smiles")
    parser.add_argument("-n", "--number", type=int, default=1000)
    parser.add_argument("--relaxed", type=int, default=200, help="how many are relaxed with GFN2-xTB")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--docs", action="store_true")
    arguments = parser.parse_intermixed_args()
    folder: Path = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    reference = Reference(arguments.data.name, smiles=plain_smiles(arguments.data))

    def row(name: str, make: Callable[[], tuple[list[ase.Atoms], dict[str, Any]]]) -> dict[str, Any]:
        return row_of(folder / f"{name}.json", make, reference, arguments.number, arguments.relaxed)

    rows = {DATA: row(DATA, lambda: (some_of(arguments.data, arguments.number), {}))}
    for name, _, model in (given.partition("=") for given in arguments.models):
        rows[name] = row(name, partial(drawn, model, folder / name, arguments.number, arguments.threads))
    threads = "1 thread" if arguments.threads == 1 else f"{arguments.threads} threads"
    about = f"{arguments.number} molecules of each, {arguments.relaxed} relaxed; {threads} of {processor()}."
    print(f"{tables(rows)}\n{about}")
    if arguments.docs:
        write_docs(rows, folder, about)


if __name__ == "__main__":
    main()
