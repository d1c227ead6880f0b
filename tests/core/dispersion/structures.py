"""Molecules and crystals of every kind that D3 meets, and what the package dftd3 says of them."""

import ase
import numpy as np
from ase.build import bulk, fcc111
from ase.units import Bohr, Hartree
from dftd3.interface import DispersionModel, RationalDampingParam

from atomsml.dispersion import Cutoffs

MOLECULES = ("H2O", "CH4", "C6H6", "CH3CONH2", "SO2", "PH3", "SiH4", "CH3Cl", "NaCl", "LiF", "C60", "CCl4")
CUTOFFS = Cutoffs()


def crystals() -> dict[str, ase.Atoms]:
    sheared = bulk("NaCl", "rocksalt", a=5.6)
    sheared.set_cell(sheared.cell.array @ [[1, 0.1, 0.2], [0, 0.9, 0.3], [0, 0, 1.1]], scale_atoms=True)
    sheared.positions += [20, -30, 4]  # far outside the cell
    slab = fcc111("Cu", (2, 2, 2), vacuum=5)
    slab.pbc = (True, True, False)
    slab.arrays.pop("tags")
    wire = bulk("Al", cubic=True)
    wire.center(vacuum=5, axis=(0, 2))  # dftd3 moves atoms into the cell along open axes, too
    wire.pbc = (False, True, False)
    left = bulk("ZnS", "wurtzite", a=3.8, c=6.2)
    left.set_cell(left.cell.array[[1, 0, 2]])  # left-handed
    needle = bulk("Si")
    needle.set_cell(needle.cell.array @ np.diag([1, 1, 1.3]), scale_atoms=True)
    needle.cell[2] += 3 * needle.cell[0] - 2 * needle.cell[1]  # the same lattice, as oblique as can be
    found = {
        "argon": bulk("Ar", "fcc", a=5.3),  # one atom
        "diamond": bulk("C"),
        "sheared": sheared,
        "slab": slab,
        "wire": wire,
        "left-handed": left,
        "oblique": needle,
        "lead": bulk("Pb"),
    }
    for atoms in found.values():
        atoms.rattle(0.05, seed=1)
    return found


def by_dftd3(atoms: ase.Atoms, method: str, atm: bool) -> tuple[float, np.ndarray, np.ndarray]:
    """Energy (hartree), forces (hartree/bohr), and the derivative of the energy by strain (hartree)."""
    periodic = {"lattice": atoms.cell.array / Bohr, "periodic": atoms.pbc} if atoms.pbc.any() else {}
    model = DispersionModel(atoms.numbers, atoms.positions / Bohr, **periodic)
    model.set_realspace_cutoff(CUTOFFS.pairs, CUTOFFS.triples, CUTOFFS.coordination)
    found = model.get_dispersion(RationalDampingParam(method=method, atm=atm), grad=True)
    return found["energy"], -found["gradient"], found["virial"]


def in_atomic_units(prediction, atoms: ase.Atoms) -> tuple[float, np.ndarray, np.ndarray]:
    strain = prediction.stress[0].numpy() * atoms.get_volume() if atoms.cell.rank == 3 else np.full((3, 3), np.nan)
    return prediction.energy.item() / Hartree, prediction.forces.numpy() * Bohr / Hartree, strain / Hartree
