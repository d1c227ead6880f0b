"""Lattice energies of molecular crystals (X23) by a model with and without D3, beside those from experiments.

    python -m benchmarks.properties.lattice_energies DATA --model NAME [--model FILE] [--d3 pbe] [--docs]

DATA is the folder of data sets: references/x23. A lattice energy is the energy of a molecule by itself less that of a
molecule in the crystal, both without motion. Crystals and molecules are as B86bPBE-XDM has them; --relax relaxes
them with the model, crystals with their cells. What did not converge is left out and named.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import ase
import numpy as np
import torch
from ase.units import kcal, mol

from atomsml import AtomsMLCalculator
from atomsml.properties.engine import Engine
from atomsml.simulate.relax import RelaxSettings
from benchmarks.shared.reporting import DOCS, read_frames, replace_section, table

KJ = 4.184  # kJ/mol in one kcal/mol


def structures(folder: Path) -> dict[str, ase.Atoms]:
    """By id: crystals as B86bPBE-XDM has them, and molecules."""
    frames = read_frames(folder / "structures.extxyz.xz")
    return {
        x.info["id"]: ase.Atoms(x.numbers, x.positions, cell=x.cell, pbc=x.pbc)
        for x in frames
        if x.info["geometry"] != "experimental"
    }


def energies(known: dict[str, ase.Atoms], model: str, d3: str | None, relax: bool) -> dict[str, tuple[float, float]]:
    """Energy (eV) and volume (A^3) of each that has one."""
    calculator = AtomsMLCalculator(model, device="cpu", precision="float64", d3=d3)
    engine, found = Engine.of(calculator), {}
    for cell in (True, False):
        some = {name: atoms for name, atoms in known.items() if atoms.pbc.any() == cell}
        names = list(some)
        if not relax:
            for name, atoms in zip(names, engine.evaluate(list(some.values())), strict=True):
                found[name] = atoms.get_potential_energy(), some[name].cell.volume
            continue
        for one in engine.relax(list(some.values()), RelaxSettings(fmax=0.02, steps=400, cell=cell)):
            if one.state.converged:
                found[names[one.index]] = one.atoms.get_potential_energy(), one.atoms.cell.volume
            else:
                print(f"{model} {d3 or ''}: {names[one.index]} did not converge")
    return found


def lattice_energies(entries: list, found: dict[str, tuple[float, float]]) -> dict[str, float]:
    """kJ/mol of a molecule."""
    energies = {}
    for entry in entries:
        parts = entry["stoichiometry"]
        if all(name in found for _, name in parts):
            energies[entry["crystal"]] = sum(n * found[name][0] for n, name in parts) / (kcal / mol) * KJ
    return energies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", action="append", required=True)
    parser.add_argument("--d3", default="pbe")
    parser.add_argument("--relax", action="store_true")
    parser.add_argument("--docs", action="store_true", help="write the table into docs/properties.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = arguments.data / "references" / "x23"
    known = structures(folder)
    entries = json.loads((folder / "lattice_energies.json").read_text())["entries"]
    header, columns, volumes = ["kJ/mol", "reference"], [], []
    for model in arguments.model:
        for d3 in (None, arguments.d3):
            found = energies(known, model, d3, arguments.relax)
            header.append(f"{Path(model).stem}{f' + D3({d3})' if d3 else ''}")
            columns.append(lattice_energies(entries, found))
            crystals = [e["crystal"] for e in entries if e["crystal"] in found]
            volumes.append([found[name][1] / known[name].cell.volume for name in crystals])
    reference = {entry["crystal"]: entry["lattice_energy_kcal_mol"] * KJ for entry in entries}
    rows = [
        [name.replace("_", " "), f"{energy:.1f}", *(f"{x[name]:.1f}" if name in x else "-" for x in columns)]
        for name, energy in reference.items()
    ]
    errors = [np.array([x[name] - reference[name] for name in x]) for x in columns]
    rows.append(["**mean error**", "", *(f"{x.mean():+.1f}" for x in errors)])
    rows.append(["**mean absolute error**", "", *(f"{abs(x).mean():.1f}" for x in errors)])
    rows.append(["crystals", str(len(entries)), *(str(len(x)) for x in errors)])
    if arguments.relax:
        rows.append(["volume / that of B86bPBE-XDM", "1", *(f"{np.mean(x):.3f}" for x in volumes)])
    text = table(header, rows)
    print(text)
    if arguments.docs:
        replace_section(DOCS / "properties.md", "lattice-energies", text)


if __name__ == "__main__":
    main()
