"""Universal potentials beside DFT: forces, relaxed crystals, bulk moduli, and the time that they take.

    python -m benchmarks.accuracy.universal DATA -o FOLDER [--models NAME FILE chgnet ...] [--docs]

DATA is the folder of published sets. A model is an embedded or fetched name, a file, or `chgnet` (CHGNet 0.3.0 in the
environment .venv-chgnet, `make chgnet`). Parts:

    frames   the DFT frames of MatterSim's repository mptrj-random-1k and random-TP: forces, stress, and energies after
             the best shift per element, since models count energies from different levels
    relaxed  crystals of wbm_random_equilibrium, strained by up to 3 %, rattled by 0.05 A, and relaxed with their cells
    moduli   bulk moduli of crystals of mp_binary_elasticity with up to 8 atoms: a Birch-Murnaghan fit through 7 volumes
             within 4.5 % of the relaxed one, atoms relaxed at each
    time     CPU time of energy, forces and stress through the calculator, one thread, in turns

What is found is kept in FOLDER, and a stopped run goes on from there; another model is another column. `--docs` puts
the table into docs/universal.md.
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
from functools import partial
from pathlib import Path
from typing import Any

import ase
import numpy as np
import torch
from ase.build import bulk
from ase.eos import EquationOfState
from ase.units import GPa
from numpy.typing import NDArray
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor

from atomsml.simulate.relax import RelaxSettings, relax
from benchmarks.shared.peers import take_turns
from benchmarks.shared.reporting import DOCS, processor, read_frames, replace_section, table
from benchmarks.shared.universal_models import (
    MODELS,
    Model,
    Record,
    Rows,
    chosen,
    kept,
    number,
    shifted,
    single_point,
)

FRAMES = ("mptrj-random-1k", "random-TP")
LARGEST_CRYSTAL = 8  # atoms of crystals whose bulk modulus is computed
VOLUMES = np.linspace(0.955, 1.045, 7)
RELAX, IONS = RelaxSettings(fmax=0.02, steps=200, cell=True), RelaxSettings(fmax=0.02, steps=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=tuple(PARTS))
    parser.add_argument("--frames", type=int, default=300, help="of each file at most")
    parser.add_argument("--crystals", type=int, default=80, help="to relax")
    parser.add_argument("--moduli", type=int, default=100, help="bulk moduli")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--docs", action="store_true", help="put the table into docs/universal.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    models = [Model(name) for name in arguments.models]
    found: dict[str, Rows] = {model.label: {} for model in models}
    for part in arguments.only:
        for label, rows in PARTS[part](models, arguments).items():
            found[label] |= rows
    names = list(found[models[0].label])
    text = table(["", *found], [[name, *(rows[name] for rows in found.values())] for name in names])
    text = f"{processor()}, one thread, torch {torch.__version__}.\n\n{text}"
    print(json.dumps(found, indent=1) if arguments.json else text)
    if arguments.docs:
        replace_section(DOCS / "universal.md", "accuracy", text)


def frames(models: list[Model], arguments: argparse.Namespace) -> dict[str, Rows]:
    """Errors on DFT frames as they are."""
    found: dict[str, Rows] = {model.label: {} for model in models}
    for name in FRAMES:
        structures = read_frames(arguments.data / "materials_ff" / "mattersim" / f"{name}.extxyz.xz")
        structures = chosen(structures, arguments.frames)
        for model in models:
            records = kept(arguments.output / f"{name}.{model.key}.jsonl", structures, partial(frame_errors, model))
            components = np.array([3 * len(atoms) for atoms in structures])
            left = shifted(np.array([record["energy"] for record in records]), structures)
            forces = 1e3 * np.array([record["forces"] for record in records])
            about = f"{name}, {len(structures)} frames"
            found[model.label] |= {
                f"{about}: forces MAE, meV/A": number(forces.sum() / components.sum(), 0),
                f"{about}: the same, median of the frames": number(float(np.median(forces / components)), 0),
                f"{about}: energy MAE, shifted, meV/atom": number(1e3 * float(np.abs(left).mean()), 0),
                f"{about}: stress MAE, GPa": number(statistics.fmean(r["stress"] for r in records) / GPa, 2),
            }
    return found


def frame_errors(model: Model, atoms: ase.Atoms) -> Record:
    """Error of the energy, sum of absolute errors of force components, mean absolute error of stress components."""
    energy, forces, stress = single_point(model, atoms)
    reference = np.array(atoms.info["REF_stress"]).reshape(3, 3)
    voigt = reference[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    return {
        "energy": energy - float(atoms.info["REF_energy"]),
        "forces": float(np.abs(forces - atoms.arrays["REF_forces"]).sum()),
        "stress": float(np.abs(stress - voigt).mean()),
    }


def relaxed(models: list[Model], arguments: argparse.Namespace) -> dict[str, Rows]:
    """Energies, volumes and positions of crystals in the minimum of a model beside those in the minimum of DFT."""
    entries = chosen(read_entries(arguments.data / "crystals" / "wbm_random_equilibrium.json.gz"), arguments.crystals)
    found = {}
    for model in models:
        records = kept(arguments.output / f"relaxed.{model.key}.jsonl", entries, partial(relaxation, model))
        ended = [record for record in records if record["converged"]]
        matched = [record["rmsd"] for record in ended if record["rmsd"] is not None]
        errors = {
            key: 1e3 * statistics.fmean(abs(r["energy"] - r[key]) for r in ended) for key in ("dft", "dft_corrected")
        }
        volumes = [abs(record["volume"] / record["dft_volume"] - 1) for record in ended]
        about = f"WBM, {len(records)} crystals relaxed"
        found[model.label] = {
            f"{about}: converged in {RELAX.steps} steps": f"{len(ended)}",
            f"{about}: energy MAE, meV/atom": number(errors["dft"], 0),
            f"{about}: the same beside corrected energies (MP2020)": number(errors["dft_corrected"], 0),
            f"{about}: volume, mean error": f"{statistics.fmean(volumes):.1%}",
            f"{about}: same structure as DFT's": f"{len(matched)}",
            f"{about}: of these RMSD, mean, A": number(statistics.fmean(matched), 3),
        }
    return found


def relaxation(model: Model, entry: Record) -> Record:
    """One crystal from a start that the name of the crystal decides."""
    structure: Structure = entry["structure"]
    atoms = AseAtomsAdaptor.get_atoms(structure, msonable=False)
    random = np.random.default_rng([ord(letter) for letter in entry["material_id"]])
    strain = random.uniform(-0.03, 0.03, (3, 3))
    atoms.set_cell(atoms.cell @ (np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
    atoms.positions += random.normal(0, 0.05, atoms.positions.shape)
    atoms.calc = model.calculator
    reference = {
        "dft": entry["energy"] / len(atoms),
        "dft_corrected": entry["corrected_energy"] / len(atoms),
        "dft_volume": structure.volume / len(atoms),
    }
    try:
        end = relax(atoms, RELAX)
    except ValueError as error:  # atoms that fell into each other, a cell that vanished
        return reference | {"converged": False, "reason": str(error)}
    if not end.converged:
        return reference | {"converged": False, "reason": end.reason}
    energy, volume = end.energy / len(atoms), atoms.get_volume() / len(atoms)
    return reference | {"converged": True, "energy": energy, "volume": volume, "rmsd": rmsd(structure, atoms)}


def rmsd(reference: Structure, atoms: ase.Atoms) -> float | None:
    """Root mean square distance of the atoms, A, at the volume of the reference; None if it is another structure."""
    here = AseAtomsAdaptor.get_structure(atoms)
    found = StructureMatcher(primitive_cell=False).get_rms_dist(reference, here)
    return None if found is None else float(found[0] * (reference.volume / len(reference)) ** (1 / 3))


def moduli(models: list[Model], arguments: argparse.Namespace) -> dict[str, Rows]:
    """Bulk moduli beside the Voigt-Reuss-Hill averages of DFT's elastic constants."""
    entries = read_entries(arguments.data / "crystals" / "mp_binary_elasticity.json.gz")
    entries = chosen([e for e in entries if len(e["structure"]) <= LARGEST_CRYSTAL], arguments.moduli)
    found = {}
    for model in models:
        records = kept(arguments.output / f"moduli.{model.key}.jsonl", entries, partial(bulk_modulus, model))
        pairs = [(record["modulus"], record["dft"]) for record in records if record["modulus"] is not None]
        ours, dft = np.array(pairs).T
        relative = np.abs(ours / dft - 1)
        about = f"bulk moduli of {len(records)} binaries"
        found[model.label] = {
            f"{about}: computed": f"{len(pairs)}",
            f"{about}: MAE, GPa": number(float(np.abs(ours - dft).mean()), 1),
            f"{about}: mean relative error": f"{relative.mean():.0%}",
            f"{about}: within 20 % of DFT": f"{int((relative < 0.2).sum())}",
        }
    return found


def bulk_modulus(model: Model, entry: Record) -> Record:
    """GPa; None where no minimum was found within the volumes, with the reason."""
    atoms = AseAtomsAdaptor.get_atoms(entry["structure"], msonable=False)
    atoms.calc = model.calculator
    reference = {"dft": entry["bulk_modulus_vrh"]}
    try:
        end = relax(atoms, RELAX)
        if not end.converged:
            return reference | {"modulus": None, "reason": end.reason}
        volumes, energies = zip(*(at_volume(atoms, factor) for factor in VOLUMES), strict=True)
        volume, _, modulus = EquationOfState(volumes, energies, eos="birchmurnaghan").fit(warn=False)
    except (ValueError, RuntimeError) as error:  # the fit raises either
        return reference | {"modulus": None, "reason": str(error)}
    if not volumes[0] < volume < volumes[-1]:
        return reference | {"modulus": None, "reason": "no minimum within the volumes"}
    return reference | {"modulus": float(modulus / GPa)}


def at_volume(atoms: ase.Atoms, factor: float) -> tuple[float, float]:
    """Volume, A^3, and the lowest energy there, eV."""
    strained = atoms.copy()
    strained.set_cell(atoms.cell * factor ** (1 / 3), scale_atoms=True)
    strained.calc = atoms.calc
    return strained.get_volume(), relax(strained, IONS).energy


def read_entries(path: Path) -> list[dict[str, Any]]:
    """Records with `structure` as pymatgen's."""
    entries: list[dict[str, Any]] = json.loads(gzip.decompress(path.read_bytes()))
    return [entry | {"structure": Structure.from_dict(entry["structure"])} for entry in entries]


def times(models: list[Model], arguments: argparse.Namespace) -> dict[str, Rows]:
    """CPU time of structures that no calculator has seen before, the models in turns; medians."""
    crystals = chosen(read_entries(arguments.data / "crystals" / "wbm_random_equilibrium.json.gz"), 20)
    stream = [AseAtomsAdaptor.get_atoms(entry["structure"], msonable=False) for entry in crystals]
    silicon, salt = bulk("Si", cubic=True) * (3, 3, 3), bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    found: dict[str, Rows] = {model.label: {} for model in models}
    for about, atoms in (("216 atoms of Si", [silicon]), ("8 atoms of NaCl", [salt]), ("20 crystals", stream)):
        steps = [Turn(model, atoms) for model in models]
        for model, seconds in zip(models, take_turns(steps, repeats=5, warm_up=2), strict=True):
            each = statistics.median(seconds) / sum(map(len, atoms))
            found[model.label][f"CPU time, {about}, each new: us/atom"] = number(1e6 * each, 0)
    return found


class Turn:
    """One turn of a model: CPU seconds for all structures, which are shaken a little more every time."""

    def __init__(self, model: Model, structures: list[ase.Atoms]) -> None:
        self.model, self.structures = model, [atoms.copy() for atoms in structures]
        self.random: np.random.Generator = np.random.default_rng(0)

    def __call__(self) -> float:
        for atoms in self.structures:
            shift: NDArray[np.float64] = self.random.normal(0, 0.01, atoms.positions.shape)
            atoms.positions += shift
        return sum(self.model.cpu_seconds(atoms) for atoms in self.structures)


PARTS = {"frames": frames, "relaxed": relaxed, "moduli": moduli, "time": times}


if __name__ == "__main__":
    main()
