"""Lattice constants and bulk moduli of the elements of `refractory-pbe` against PBE.

    python -m benchmarks.accuracy.crystal_eos [refractory-pbe]

A Birch-Murnaghan fit through 9 volumes within 6 % of the minimum, body-centred cubic. The references are the
all-electron averages of Bosoni et al., Nat. Rev. Phys. 6, 45 (2024): volume per atom V, a = (2 V)^(1/3), and B.
"""

from __future__ import annotations

import argparse

import numpy as np
from ase.build import bulk
from ase.eos import EquationOfState
from ase.units import GPa

from atomsml import AtomsMLCalculator
from atomsml.simulate.relax import RelaxSettings, relax

# PBE, all-electron average of FLEUR and WIEN2k (Bosoni et al.): lattice constant in A, bulk modulus in GPa
REFERENCE = {"Nb": (3.3106, 169.6), "Mo": (3.161, 259.2), "Ta": (3.3197, 193.0), "W": (3.1844, 301.5)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="refractory-pbe")
    calculator = AtomsMLCalculator(parser.parse_args().model, precision="float64")
    for symbol, (a_reference, b_reference) in REFERENCE.items():
        atoms = bulk(symbol, "bcc", a=1.02 * a_reference, cubic=True)
        atoms.calc = calculator
        relax(atoms, RelaxSettings(fmax=1e-3, cell=True))
        a0 = atoms.cell.cellpar()[0]
        volumes, energies = [], []
        for factor in np.linspace(0.94, 1.06, 9) ** (1 / 3):
            strained = bulk(symbol, "bcc", a=a0 * factor, cubic=True)
            strained.calc = calculator
            volumes.append(strained.get_volume())
            energies.append(strained.get_potential_energy())
        volume, _, modulus = EquationOfState(volumes, energies, eos="birchmurnaghan").fit()
        a, b = volume ** (1 / 3), modulus / GPa
        print(
            f"{symbol:2s}  a {a:.4f} A (PBE {a_reference:.4f}, {a / a_reference - 1:+.2%})   "
            f"B {b:6.1f} GPa (PBE {b_reference:.1f}, {b / b_reference - 1:+.1%})"
        )


if __name__ == "__main__":
    main()
