"""Conformers: time beside a loop with ASE, and energies beside GMTKN55 and GFN2-xTB.

    python -m benchmarks.properties.conformers [--data DATA/references/gmtkn55] [--docs]

ETKDG seeds of molecules are relaxed until no force exceeds 0.005 eV/A, as the command does, in one batch by the engine,
and one after the other by LBFGS of ASE with the same calculator. Time is that of the processor, one thread.

With DATA, energies of conformers and barriers of rotation of GMTKN55 (Goerigk et al., Phys. Chem. Chem. Phys. 19, 32184
(2017)), at the geometries given there: those whose molecules are neutral, closed shells of elements that organic-xtb
knows. BUT14DIOL, MCONF, PCONF21, Amino20x4 and UPU23 are not among the published sets that DATA holds. GFN2-xTB is that
of tblite. The model learned from GFN2-xTB, whose dispersion is D4: D3 on top counts it twice, and is shown for that.
Half a minute of one core.
"""

from __future__ import annotations

import argparse
import json
import lzma
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ase
import numpy as np
import torch
from ase.optimize import LBFGS

from atomsml import AtomsMLCalculator
from atomsml.io.molecules import atoms_from_smiles
from atomsml.io.sdf import mol_with_bonds
from atomsml.properties.conformers.seeds import embedded
from atomsml.properties.engine import Engine
from atomsml.simulate.relax import RelaxSettings
from atomsml.units import KCAL
from benchmarks.shared.reporting import DOCS, processor, read_frames, replace_section, table, three_digits

MODEL = "organic-xtb"
MOLECULES = ("CCCCC", "CC(O)CCO", "CC(=O)NC(C)C(=O)NC", "OCC1OC(O)C(O)C(O)C1O", "c1ccccc1CCN")
SEEDS, FMAX, STEPS = 20, 0.005, 500
SAME = 1e-3  # eV: minima this close are the same
SUBSETS = {
    "aconf": "ACONF, alkanes",
    "cyconf": "CYCONF, cysteine",
    "iconf": "ICONF, inorganic",
    "bhrot27": "BHROT27, barriers of rotation",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--docs", action="store_true", help="put the tables into docs/properties.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    texts = {"conformers: time": beside_ase()}
    if arguments.data:
        texts["conformers: energies"] = beside_references(arguments.data)
    for name, text in texts.items():
        print(text)
        if arguments.docs:
            replace_section(DOCS / "properties.md", name, text)


def beside_ase() -> str:
    calculator = AtomsMLCalculator(MODEL, device="cpu")
    seeds = [atoms for smiles in MOLECULES for atoms in seeds_of(smiles)]
    ways: dict[str, Callable[[list[ase.Atoms]], tuple[np.ndarray, int]]] = {
        f"engine, L-BFGS, one batch ({version('atomsml')})": lambda some: by_engine(calculator, some),
        f"ASE, LBFGS, one by one ({version('ase')})": lambda some: by_ase(calculator, some),
    }
    rows, first = list[list[str]](), None
    for name, relaxed in ways.items():
        relaxed(seeds[:2])  # machine code is made when it is first needed
        begun = time.process_time()
        energies, evaluations = relaxed(seeds)
        seconds = time.process_time() - begun
        first = first or (energies, seconds)
        same = int((np.abs(energies - first[0]) < SAME).sum())
        rows.append([name, three_digits(seconds), f"{seconds / first[1]:.1f}", str(evaluations), str(same)])
    atoms = sum(map(len, seeds))
    about = f"{len(seeds)} seeds of {len(MOLECULES)} molecules, {atoms} atoms, {MODEL}; {processor()}, one thread."
    return f"{about}\n\n{table(['', 'CPU s', 'beside the engine', 'evaluations', 'same minimum'], rows)}"


def seeds_of(smiles: str) -> list[ase.Atoms]:
    given = atoms_from_smiles(smiles)
    found = []
    for positions in embedded(mol_with_bonds(given), SEEDS, seed=0):
        found.append(given.copy())
        found[-1].positions = positions
    return found


def by_engine(calculator: AtomsMLCalculator, seeds: list[ase.Atoms]) -> tuple[np.ndarray, int]:
    done = sorted(Engine.of(calculator).relax(seeds, RelaxSettings(FMAX, STEPS)), key=lambda each: each.index)
    return np.array([each.state.energy for each in done]), sum(each.state.step + 1 for each in done)


def by_ase(calculator: AtomsMLCalculator, seeds: list[ase.Atoms]) -> tuple[np.ndarray, int]:
    energies, evaluations = [], 0
    for seed in seeds:
        atoms = seed.copy()
        atoms.calc = calculator
        dynamics = LBFGS(atoms, logfile=None)
        dynamics.run(fmax=FMAX, steps=STEPS)
        evaluations += dynamics.nsteps + 1
        energies.append(atoms.get_potential_energy())
    return np.array(energies), evaluations


def beside_references(data: Path) -> str:
    from tblite.ase import TBLite

    calculators = {name: AtomsMLCalculator(MODEL, "cpu", d3=d3) for name, d3 in (("model", None), ("d3", "pbe"))}
    engines = {name: Engine.of(calculator) for name, calculator in calculators.items()}
    engines["gfn2"] = Engine.of_ase(TBLite(method="GFN2-xTB", verbosity=0))
    told = json.loads(lzma.decompress((data / "reactions.json.xz").read_bytes()))
    molecules = {atoms.info["id"]: atoms for atoms in read_frames(data / "structures.extxyz.xz")}
    known = {name for name, atoms in molecules.items() if fits(atoms, set(calculators["model"].potential.elements))}
    rows = []
    for subset, title in SUBSETS.items():
        every = told[subset]["reactions"]
        reactions = [each for each in every if {name for _, name in each["stoichiometry"]} <= known]
        names = sorted({name for each in reactions for _, name in each["stoichiometry"]})
        energies = {}
        for way, engine in engines.items():
            found = engine.evaluate([molecules[name] for name in names])
            energies[way] = {n: atoms.get_potential_energy() for n, atoms in zip(names, found, strict=True)}
        rows.append([title, f"{len(reactions)} of {len(every)}", *errors(reactions, energies)])
    header = ["", "energies", "mean size", MODEL, "GFN2-xTB", f"{MODEL} beside GFN2-xTB", f"{MODEL} with D3 too"]
    return f"Mean absolute errors, kcal/mol.\n\n{table(header, rows)}"


def fits(atoms: ase.Atoms, elements: set[int]) -> bool:
    return set(atoms.numbers.tolist()) <= elements and atoms.info["charge"] == 0 and atoms.info["multiplicity"] == 1


def errors(reactions: list[dict[str, Any]], energies: dict[str, dict[str, float]]) -> list[str]:
    """The mean size of the references, and mean absolute errors of each way, and of the model beside GFN2-xTB."""
    references = np.array([each["ref_kcal_mol"] for each in reactions])
    found = {
        way: np.array([sum(n * of[name] for n, name in each["stoichiometry"]) / KCAL for each in reactions])
        for way, of in energies.items()
    }
    means = [references, found["model"] - references, found["gfn2"] - references]
    means += [found["model"] - found["gfn2"], found["d3"] - references]
    return [f"{np.abs(each).mean():.2f}" for each in means]


if __name__ == "__main__":
    main()
