"""Relax the molecules of ASE's g2 set with an embedded model and compare with their GFN2-xTB minima.

    python -m benchmarks.accuracy.g2_relaxation [organic-xtb]

Taken are the molecules made of the model's elements with a closed shell (no magnetic moments in the set) and at least
two atoms. The GFN2-xTB minimum (tblite, of the extra `test`) is relaxed from the same start to 0.005 eV/A.
"""

from __future__ import annotations

import argparse

import ase
import numpy as np
from ase.build import molecule
from ase.collections import g2
from ase.optimize import BFGS
from tblite.ase import TBLite

from atomsml import AtomsMLCalculator, load
from atomsml.io import bond_graph
from atomsml.simulate.relax import RelaxSettings, relax


def closed_shell_molecules(elements: tuple[int, ...]) -> list[tuple[str, ase.Atoms]]:
    # singlets are meant where the set has no moments, that of CH2 too, which is no ground state
    found = [(name, molecule(name, info={"spin": 1})) for name in g2.names]
    return [
        (name, atoms)
        for name, atoms in found
        if len(atoms) > 1 and set(atoms.numbers) <= set(elements) and not atoms.get_initial_magnetic_moments().any()
    ]


def xtb_minimum(atoms: ase.Atoms) -> ase.Atoms:
    relaxed = atoms.copy()
    relaxed.calc = TBLite(method="GFN2-xTB", verbosity=0)
    BFGS(relaxed, logfile=None).run(fmax=0.005, steps=500)
    return relaxed


def heavy_atom_rmsd(a: ase.Atoms, b: ase.Atoms) -> float:
    """Root mean square distance (A) of the atoms other than H after the best superposition (Kabsch).

    NaN with fewer than two of them, for which the distance is zero whatever the model says.
    """
    heavy = a.numbers > 1
    if heavy.sum() < 2:
        return float("nan")
    x, y = a.positions[heavy] - a.positions[heavy].mean(0), b.positions[heavy] - b.positions[heavy].mean(0)
    u, _, vt = np.linalg.svd(x.T @ y)
    u[:, -1] *= np.sign(np.linalg.det(u @ vt))
    return float(np.sqrt(((x @ u @ vt - y) ** 2).sum(axis=1).mean()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="organic-xtb")
    name = parser.parse_args().model
    calculator = AtomsMLCalculator(name)
    rows = []
    for label, atoms in closed_shell_molecules(load(name).elements):
        bonds = bond_graph(atoms)
        relaxed = atoms.copy()
        relaxed.calc = calculator
        state = relax(relaxed, RelaxSettings(fmax=0.05, steps=300))
        kept = bond_graph(relaxed) == bonds
        rmsd = heavy_atom_rmsd(relaxed, xtb_minimum(atoms))
        rows.append((state.converged, kept, rmsd))
        if not (state.converged and kept) or rmsd > 0.1:
            print(f"{label:16s} {state.reason:12s} steps {state.step:3d}  bonding kept {kept}  RMSD {rmsd:.3f} A")
    converged, kept_bonds, rmsds = map(np.array, zip(*rows, strict=True))
    print(f"{name}: {len(rows)} molecules")
    print(f"converged to 0.05 eV/A in 300 steps   {converged.mean():.1%}")
    print(f"converged and kept their bonding      {(converged & kept_bonds).mean():.1%}")
    rmsds = rmsds[~np.isnan(rmsds)]
    print(
        f"heavy-atom RMSD to GFN2-xTB           median {np.median(rmsds):.4f} A, "
        f"90 % below {np.quantile(rmsds, 0.9):.3f} A ({len(rmsds)} molecules with two or more heavy atoms)"
    )


if __name__ == "__main__":
    main()
