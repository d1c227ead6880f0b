"""Equations of state of elements and oxides beside all-electron PBE.

    python -m benchmarks.properties.equations_of_state DATA/references/acwf [--model MODEL ...] [--docs]

50 of the unaries and 50 of the oxides of Bosoni et al., Nat. Rev. Phys. 6, 45 (2024), by a seeded choice: many of them
are structures in which no such element or oxide stands, far from what models learn from. Oxides of V, Cr, Mn, Fe, Co,
Ni, Mo and W are left out: universal models learn these with a Hubbard U. The references are the averages of two all-
electron codes. Crystals are relaxed with their space groups kept, and computed at 7 volumes within 6 %. Ten seconds of
one core with universal-small, two minutes with SevenNet-0.
"""

from __future__ import annotations

import argparse
import json
import lzma
from pathlib import Path

import ase
import numpy as np
import torch

from atomsml import AtomsMLCalculator
from atomsml.properties.engine import Engine
from atomsml.properties.eos import EosSettings, EquationOfState, equations_of_state
from atomsml.properties.task import Start
from atomsml.units import GPA
from benchmarks.shared.reporting import DOCS, read_frames, replace_row

WITH_U = {"V", "Cr", "Mn", "Fe", "Co", "Ni", "Mo", "W"}
COUNT = 50  # of each kind


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", action="append")
    parser.add_argument("--docs", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for model in arguments.model or ["universal-small"]:
        calculator = AtomsMLCalculator(model)
        engine = Engine.of(calculator)
        for kind in ("unaries", "oxides"):
            row = [f"{Path(model).stem}, {kind}", *compare(engine, *chosen(arguments.data, kind, calculator))]
            print(" | ".join(row), flush=True)
            if arguments.docs:
                replace_row(DOCS / "properties.md", "eos", row)


def chosen(data: Path, kind: str, calculator: AtomsMLCalculator) -> tuple[list[ase.Atoms], list[tuple[float, float]]]:
    """Crystals, and of each the volume (A^3 of the cell) and the bulk modulus (GPa) of the reference."""
    told = json.loads(lzma.decompress((data / f"{kind}_AE-average.json.xz").read_bytes()))
    found = []
    for atoms in read_frames(data / f"{kind}_central_cells.extxyz.xz"):
        element, configuration = atoms.info["element"], atoms.info["configuration"]
        name = f"{element}-{configuration}" if kind == "oxides" else f"{element}-X/{configuration}"
        fit = told["BM_fit_data"].get(name)
        known = set(atoms.numbers.tolist()) <= set(calculator.potential.elements)
        if fit and known and not (kind == "oxides" and element in WITH_U):
            scale = len(atoms) / told["num_atoms_in_sim_cell"][name]
            found.append((atoms, (scale * fit["min_volume"], fit["bulk_modulus_ev_ang3"] / GPA)))
    places = np.sort(np.random.default_rng(0).choice(len(found), COUNT, replace=False))
    return [found[i][0] for i in places], [found[i][1] for i in places]


def compare(engine: Engine, crystals: list[ase.Atoms], references: list[tuple[float, float]]) -> list[str]:
    settings, start = EosSettings(volumes=7, range=0.06), Start(cell=True, symmetry=0.01)
    volumes, moduli, failed = [], [], []
    for i, found in equations_of_state(crystals, engine, settings, start):
        if isinstance(found, EquationOfState):
            volumes.append(100 * (found.v0 / references[i][0] - 1))
            moduli.append(100 * (found.b0 / references[i][1] - 1))
        else:
            failed.append(f"{crystals[i].info['id']}: {found.reason}")
    for each in failed:
        print(each)
    row = [str(len(volumes)), str(len(failed))]
    for errors in (np.abs(volumes), np.abs(moduli)):
        row += [f"{np.median(errors):.1f}", f"{errors.mean():.1f}"]
    return row


if __name__ == "__main__":
    main()
