"""Conformers of given molecules: a graph-flow beside ETKDG, by the distance to minima and the energy by GFN2-xTB.

    python -m benchmarks.generation.conformers DATA/molecules_static/qm9_xtb.h5 [MODEL] [-n 200] [--docs]

Of so many molecules that were held out of training, each generator draws CONFORMERS conformers. The reference is one
GFN2-xTB minimum of each molecule, to which ETKDG and MMFF94 were the way. Distances are root mean square deviations of
the heavy atoms at best alignment (RDKit's GetBestRMS). Covered: molecules whose nearest conformer is within NEAR.
Precise: conformers that are within NEAR. Energies are those of GFN2-xTB at the positions as drawn, above the lowest
that was found for the molecule, the reference included. Takes about ten minutes of one core.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from ase.units import Bohr, Hartree, kcal, mol
from rdkit import Chem
from rdkit.Chem import Mol, rdDistGeom, rdForceFieldHelpers, rdMolAlign
from tblite.interface import Calculator, TBLiteRuntimeError

from atomsml.generative.core.sampling import sample_seed
from atomsml.generative.core.set import hold_out
from atomsml.generative.molecules.conformers import smiles_requests, with_stereo
from atomsml.generative.molecules.data import read_molecules
from atomsml.generative.molecules.model import MoleculeModel
from atomsml.generative.molecules.modelfile import load_generator
from atomsml.generative.molecules.sampling import sample_molecules
from atomsml.io import parse_smiles
from benchmarks.shared.reporting import DOCS, replace_section, table

HELD_OUT, CONFORMERS, NEAR = 1000, 10, 0.5
TRIES = 10  # for the stereochemistry of a SMILES


def with_positions(smiles: str, positions: np.ndarray) -> Mol:
    """Atoms in the order of `parse_smiles`."""
    found = parse_smiles(smiles)
    conformer = Chem.Conformer(found.GetNumAtoms())
    for i, place in enumerate(positions.tolist()):
        conformer.SetAtomPosition(i, place)
    found.AddConformer(conformer)
    return found


def held_out(path: Path, number: int) -> dict[str, Mol]:
    """The first molecules that the recipe's training did not see, by their SMILES, at their minima."""
    _, valid = hold_out(read_molecules([path]), HELD_OUT, 0)
    rows = valid.places[:number, 1]
    with h5py.File(path) as file:
        offsets, smiles = file["offsets"][:], file["smiles"].asstr()[:]
        places = {smiles[i]: file["positions"][offsets[i] : offsets[i + 1]].astype(float) for i in rows}
    return {text: with_positions(text, positions) for text, positions in places.items()}


def energy(molecule: Mol) -> float:
    """kcal/mol by GFN2-xTB; NaN where its density does not converge."""
    numbers = np.array([atom.GetAtomicNum() for atom in molecule.GetAtoms()])
    calculator = Calculator("GFN2-xTB", numbers, molecule.GetConformer().GetPositions() / Bohr)
    calculator.set("verbosity", 0)
    try:
        return float(calculator.singlepoint().get("energy")) * Hartree / (kcal / mol)
    except TBLiteRuntimeError:
        return np.nan


def distance(molecule: Mol, reference: Mol) -> float:
    """A, of the heavy atoms."""
    return float(rdMolAlign.GetBestRMS(Chem.RemoveHs(molecule), Chem.RemoveHs(reference)))


def of_model(model: MoleculeModel) -> Callable[[list[str]], list[list[Mol]]]:
    def draw(smiles: list[str]) -> list[list[Mol]]:
        found: list[list[Mol]] = [[] for _ in smiles]
        left = [row for row in range(len(smiles)) for _ in range(CONFORMERS)]
        for attempt in range(TRIES):
            seeds = [sample_seed(attempt, i) for i in range(len(left))]
            requests, again = smiles_requests(model, [smiles[row] for row in left], seeds), []
            how = model.default_steps, model.default_sampler
            for progress in sample_molecules(model, requests, model.batches(requests), *how):
                for place, atoms in progress.drawn.items():
                    right = with_stereo(atoms, smiles[left[place]])
                    if right is None:
                        again.append(left[place])
                    else:
                        found[left[place]].append(with_positions(smiles[left[place]], right.positions))
            left = again
        return found

    return draw


def etkdg(smiles: list[str]) -> list[list[Mol]]:
    found = []
    for text in smiles:
        molecule = parse_smiles(text)
        parameters = rdDistGeom.ETKDGv3()
        parameters.randomSeed = 1
        rdDistGeom.EmbedMultipleConfs(molecule, CONFORMERS, parameters)
        found.append([with_positions(text, each.GetPositions()) for each in molecule.GetConformers()])
    return found


def etkdg_mmff(smiles: list[str]) -> list[list[Mol]]:
    found = etkdg(smiles)
    for conformers in found:
        for molecule in conformers:
            rdForceFieldHelpers.MMFFOptimizeMolecule(molecule, maxIters=2000)
    return found


def measured(
    name: str,
    molecules: list[list[Mol]],
    references: list[Mol],
    energies: list[list[float]],
    lowest: list[float],
    seconds: float,
) -> list[str]:
    """A row of the table."""
    distances = [[distance(each, references[i]) for each in row] for i, row in enumerate(molecules)]
    nearest = np.array([min(row, default=np.inf) for row in distances])
    every = np.concatenate([row for row in distances if row])
    above = [np.array(row) - low for row, low in zip(energies, lowest, strict=True) if row]
    return [
        name,
        f"{100 * (nearest < NEAR).mean():.1f} %",
        f"{np.median(nearest):.2f} A",
        f"{100 * (every < NEAR).mean():.1f} %",
        f"{np.nanmedian([np.nanmin(row) for row in above]):.1f}",
        f"{np.nanmedian(np.concatenate(above)):.1f}",
        f"{1000 * seconds:.0f} ms",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("model", nargs="?", default="qm9-graph-flow")
    parser.add_argument("-n", "--number", type=int, default=200, help="molecules")
    parser.add_argument("--docs", action="store_true")
    arguments = parser.parse_args()
    known = held_out(arguments.data, arguments.number)
    smiles, references = list(known), list(known.values())
    generators = {
        "graph-flow": of_model(load_generator(arguments.model)),
        "ETKDGv3": etkdg,
        "ETKDGv3 and MMFF94": etkdg_mmff,
    }
    drawn, seconds = {}, {}
    for name, generator in generators.items():
        started = time.process_time()
        drawn[name] = generator(smiles)
        seconds[name] = (time.process_time() - started) / sum(map(len, drawn[name]))
    energies = {name: [[energy(each) for each in row] for row in rows] for name, rows in drawn.items()}
    lowest = [
        np.nanmin([energy(reference), *(e for rows in energies.values() for e in rows[i])])
        for i, reference in enumerate(references)
    ]
    rows = [measured(name, drawn[name], references, energies[name], lowest, seconds[name]) for name in drawn]
    head = ["generator", "covered", "median nearest", "precise", "lowest, kcal/mol", "each, kcal/mol", "CPU time each"]
    text = table(head, rows)
    print(text)
    if arguments.docs:
        replace_section(DOCS / "generators" / "generate.md", "conformers", text)


if __name__ == "__main__":
    main()
