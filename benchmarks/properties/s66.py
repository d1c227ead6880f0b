"""Interaction energies of the S66x8 dimers by an embedded model and by GFN2-xTB, beside coupled cluster.

    python -m benchmarks.properties.s66 DATA/molecules_ff/s66x8/s66x8.extxyz.xz [--d3 pbe] [--docs]

s66x8.csv has the reference, kcal/mol: the best estimates of CCSD(T) at the basis set limit by Brauer, Kesharwani,
Kozuch and Martin, Phys. Chem. Chem. Phys. 18, 20905 (2016), for the geometries of Rezac, Riley and Hobza, J. Chem.
Theory Comput. 7, 2427 (2011). The file of geometries counts dimers from 0. It has energies of wB97X/6-31G(d), of dimers
alone: these are compared as differences to the farthest point. The model is computed with and without D3: where its
labels have dispersion, as those of organic-xtb have, D3 counts it twice. `--docs` writes the table to
docs/properties.md. Two minutes.
"""

from __future__ import annotations

import argparse
import csv
import warnings
from pathlib import Path

import ase
import numpy as np
from numpy.typing import NDArray
from tblite.ase import TBLite

from atomsml import AtomsMLCalculator
from atomsml.properties.bind.interaction import Interaction, interactions
from atomsml.properties.engine import Engine
from atomsml.properties.task import Start
from atomsml.units import KCAL
from benchmarks.accuracy.binding import EQUILIBRIUM, SCALES, read_dimers
from benchmarks.shared.reporting import DOCS, replace_section, table

Curves = NDArray[np.float64]  # (dimers, separations) kcal/mol
REFERENCE = Path(__file__).with_name("s66x8.csv")
FARTHEST = SCALES.index(2.0)
KINDS = {"hydrogen bonds": range(23), "dispersion": range(23, 46), "others": range(46, 66)}  # of Rezac and others


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="organic-xtb")
    parser.add_argument("--d3", default="pbe", help="functional of the dispersion that is added")
    parser.add_argument("--docs", action="store_true", help="write the table to docs/properties.md")
    arguments = parser.parse_args()
    dimers = read_dimers(arguments.data)
    reference = read_reference(list(dimers))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that this dispersion is twice there
        dispersed = AtomsMLCalculator(arguments.model, d3=arguments.d3)
    tight = TBLite(method="GFN2-xTB", accuracy=0.1, verbosity=0)
    found = {
        arguments.model: curves(dimers, Engine.of(AtomsMLCalculator(arguments.model))),
        f"{arguments.model} + D3({arguments.d3})": curves(dimers, Engine.of(dispersed)),
        "GFN2-xTB": curves(dimers, Engine.of_ase(tight)),
    }
    kinds = [next(kind for kind, numbers in KINDS.items() if int(name[3:]) in numbers) for name in dimers]
    rows = [[name, *errors(each, reference, found["GFN2-xTB"], kinds)] for name, each in found.items()]
    density = np.array([[atoms.info["REF_energy"] for atoms in frames] for frames in dimers.values()]) / KCAL
    shapes = f"{error_of_shape(density, reference):.2f}"
    rows.append(["wB97X/6-31G(d)", *["-"] * (len(KINDS) + 2), shapes, "-"])
    header = ["kcal/mol", *KINDS, "all", "all separations", "less that at 2.00", "beside GFN2-xTB"]
    text = table(header, rows)
    print(f"{len(dimers)} dimers; mean absolute errors, the first four at the equilibrium")
    print(text)
    print_worst(found, reference, dimers)
    if arguments.docs:
        replace_section(DOCS / "properties.md", "s66x8", text)


def read_reference(names: list[str]) -> Curves:
    with REFERENCE.open(encoding="utf-8", newline="") as file:
        rows = {row["dimer"]: [float(row[f"{scale:.2f}"]) for scale in SCALES] for row in csv.DictReader(file)}
    return np.array([rows[name] for name in names])


def curves(dimers: dict[str, list[ase.Atoms]], engine: Engine) -> Curves:
    frames = [atoms for each in dimers.values() for atoms in each]
    energies = np.full(len(frames), np.nan)
    for i, found in interactions(frames, engine, start=Start(relax=False)):
        if not isinstance(found, Interaction):
            raise SystemExit(f"{frames[i].info['dimer']}: {found.reason}")
        energies[i] = found.energy / KCAL
    return energies.reshape(len(dimers), len(SCALES))


def errors(found: Curves, reference: Curves, xtb: Curves, kinds: list[str]) -> list[str]:
    """Mean absolute, by kinds and over all at the equilibrium, then as the header of the table says."""
    wrong = np.abs(found - reference)
    by_kind = [wrong[[each == kind for each in kinds], EQUILIBRIUM].mean() for kind in KINDS]
    beside = np.abs(found - xtb).mean()
    values = [*by_kind, wrong[:, EQUILIBRIUM].mean(), wrong.mean(), error_of_shape(found, reference)]
    return [*(f"{value:.2f}" for value in values), f"{beside:.2f}" if found is not xtb else "-"]


def error_of_shape(found: Curves, reference: Curves) -> float:
    """Mean absolute error of what is left where each curve is counted from its farthest point."""
    wrong = found - reference
    return float(np.abs(np.delete(wrong - wrong[:, [FARTHEST]], FARTHEST, axis=1)).mean())


def print_worst(found: dict[str, Curves], reference: Curves, dimers: dict[str, list[ase.Atoms]]) -> None:
    for name, each in found.items():
        wrong = each[:, EQUILIBRIUM] - reference[:, EQUILIBRIUM]
        print(f"{name}: mean error at the equilibrium {wrong.mean():+.2f}; the largest:")
        for i in np.argsort(-np.abs(wrong))[:3]:
            dimer = list(dimers)[i]
            energies = f"{each[i, EQUILIBRIUM]:.2f} for {reference[i, EQUILIBRIUM]:.2f}"
            print(f"  {dimer} {dimers[dimer][0].get_chemical_formula()}: {energies}")


if __name__ == "__main__":
    main()
