"""Phonon frequencies of crystals by models, beside those of density functional theory, mode by mode.

    python -m benchmarks.properties.phonon_frequencies DATA [--models universal-small sevennet-0] [--docs]

Crystals of PhononDB with rock salt, zincblende and wurtzite structures (DATA/references/phonondb_kappa), the first ones
of a random order, in the supercells and on the meshes of points that were used there. Published frequencies are those
without the electric field of longitudinal modes. Each model relaxes the crystals first. A model is a name or a file.
"""

from __future__ import annotations

import argparse
import json
import lzma
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import ase
import numpy as np
import torch
from numpy.typing import NDArray

from atomsml import AtomsMLCalculator
from atomsml.properties.engine import Engine
from atomsml.properties.phonons.harmonic import PhononSettings, phonons
from atomsml.properties.phonons.modes import IMAGINARY
from atomsml.properties.task import Failure
from benchmarks.shared.reporting import DOCS, processor, read_frames, replace_section, table


@dataclass(frozen=True)
class Published:
    atoms: ase.Atoms
    supercell: tuple[int, int, int]
    mesh: list[int]
    weights: NDArray[np.float64]  # (points,)
    frequencies: NDArray[np.float64]  # (points, modes) THz


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--models", nargs="+", default=["universal-small", "sevennet-0"])
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--docs", action="store_true", help="put the table into docs/properties.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    published = crystals(arguments.data, arguments.count)
    rows = [row(model, published) for model in arguments.models]
    header = ["model", "crystals", "without an answer", "with imaginary modes"]
    header += ["mean absolute error, THz", "of it, relative", "mean frequency, relative", "highest frequency, relative"]
    header += ["minutes of a core"]
    names = ", ".join(str(each.atoms.symbols.formula.reduce()[0]) for each in published)
    text = f"{names}; {processor()}, one thread, torch {torch.__version__}.\n\n{table(header, rows)}"
    print(text)
    if arguments.docs:
        replace_section(DOCS / "properties.md", "phonon frequencies", text)


def crystals(data: Path, count: int) -> list[Published]:
    folder = data / "references" / "phonondb_kappa"
    structures = {each.info["mp_id"]: each for each in read_frames(folder / "structures.extxyz.xz")}
    columns = json.loads(lzma.decompress((folder / "kappa_noNAC.json.xz").read_bytes()))
    keys = sorted(columns["mp_id"], key=int)
    chosen = [keys[i] for i in np.random.default_rng(0).permutation(len(keys))[:count]]
    found = []
    for key in chosen:
        atoms = structures[columns["mp_id"][key]]
        n1, n2, n3 = (int(n) for n in atoms.info["fc2_supercell"].reshape(3, 3).diagonal())
        weights = np.array(columns["weights"][key], dtype=float)
        found.append(
            Published(
                atoms,
                (n1, n2, n3),
                columns["q_mesh"][key],
                weights / weights.sum(),
                np.sort(np.array(columns["frequencies"][key]), axis=1),
            )
        )
    return found


def row(model: str, published: list[Published]) -> list[str]:
    engine = Engine.of(AtomsMLCalculator(model, device="cpu"), [each.atoms for each in published[:4]])
    errors, relative, means, highest, unstable = [], [], [], [], 0
    start = time.process_time()
    for each in published:
        frequencies = by_model(engine, each)
        if isinstance(frequencies, Failure):
            print(f"{model}: {each.atoms.symbols}: {frequencies.reason}", file=sys.stderr)
            continue
        mean, mean_published = (float(each.weights @ f.mean(axis=1)) for f in (frequencies, each.frequencies))
        errors.append(float(each.weights @ np.abs(frequencies - each.frequencies).mean(axis=1)))
        relative.append(errors[-1] / mean_published)
        means.append(mean / mean_published - 1)
        highest.append(frequencies.max() / each.frequencies.max() - 1)
        unstable += bool(frequencies.min() < -IMAGINARY)
        print(f"{model}: {each.atoms.symbols}: {errors[-1]:.3f} THz, {means[-1]:+.1%}", file=sys.stderr)
    return [
        Path(model).stem,
        f"{len(published)}",
        f"{len(published) - len(errors)}",
        f"{unstable}",
        f"{np.mean(errors):.3f}",
        f"{np.mean(relative):.1%}",
        f"{np.mean(means):+.1%}",
        f"{np.mean(highest):+.1%}",
        f"{(time.process_time() - start) / 60:.1f}",
    ]


def by_model(engine: Engine, published: Published) -> NDArray[np.float64] | Failure:
    """On the published mesh, whose points are phonopy's in their order: their weights are compared."""
    settings = PhononSettings(supercell=published.supercell, mesh=10.0)
    [(_, found)] = phonons([published.atoms], engine, settings)
    if isinstance(found, Failure):
        return found
    mesh = found.phonopy.run_mesh(published.mesh, is_gamma_center=True)
    weights = mesh.weights / mesh.weights.sum()
    if len(weights) != len(published.weights) or not np.allclose(weights, published.weights):
        return Failure("its relaxed cell has other symmetries than the published one")
    return np.sort(mesh.frequencies, axis=1)


if __name__ == "__main__":
    main()
