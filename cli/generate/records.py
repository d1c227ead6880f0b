"""Generated molecules and the files that hold them: SDF, XYZ, extended XYZ, and SMILES as CSV."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ase
    from rdkit.Chem import Mol

    from atomsml.generative.molecules.metrics.perception import Perceived
    from atomsml.io import OutputSet


@dataclass(frozen=True)
class Generated:
    """One molecule, and what is known about it."""

    index: int  # in the run: with the run's seed it makes the molecule
    seed: int  # of this molecule alone
    atoms: ase.Atoms
    perceived: Perceived  # bonds, from the positions
    reason: str  # why it is no valid connected molecule by the suite `strict`, or not that of its bonds; "" where it is
    known: Perceived | None = None  # bonds that were decided before the positions
    strain: float | None = None  # kcal/mol, what relaxing brought; None without

    @property
    def valid(self) -> bool:
        return not self.reason

    @property
    def bonding(self) -> Perceived:
        """The known bonds where there are any, otherwise the perceived ones."""
        return self.perceived if self.known is None else self.known

    def properties(self) -> dict[str, Any]:
        """What every format says about a molecule; absent is what is not known."""
        found = {
            "index": self.index,
            "seed": self.seed,
            "formula": self.atoms.get_chemical_formula("hill"),
            "smiles": self.bonding.smiles or None,
            "valid": "yes" if self.valid else "no",
            "reason": self.reason or None,
            "strain_kcal_mol": None if self.strain is None else round(self.strain, 3),
        }
        return {name: value for name, value in found.items() if value is not None}


def judged(index: int, seed: int, atoms: ase.Atoms, perceived: Perceived, reason: str) -> Generated:
    """A molecule of a run; bonds that it brings along must be those that were perceived."""
    import ase

    from atomsml.generative.molecules.known_bonds import disagreement, known_bonds

    known = known_bonds(atoms)
    if known is not None:
        reason = reason or disagreement(atoms, known, perceived)
    return Generated(index, seed, ase.Atoms(atoms.numbers, atoms.positions), perceived, reason, known)


def check_molecules_output(path: Path) -> None:
    """Refuse an output file of molecules before the work rather than after it.

    Raises:
        ValueError: a suffix that is none of WRITERS.
        OSError: the path cannot be written.
    """
    from atomsml.cli.output import check_writable

    check_writable(path)
    if path.suffix.lower() not in WRITERS:
        raise ValueError(f"cannot write molecules to {path}; use the suffix {', '.join(WRITERS)}")


def write_molecules(files: OutputSet, path: Path, molecules: Sequence[Generated]) -> None:
    """Write all molecules in the format that the suffix of `path` means.

    Raises:
        OSError: the path cannot be written.
    """
    files.write(path, lambda beside: WRITERS[path.suffix.lower()](beside, molecules))


def _write_sdf(path: Path, molecules: Sequence[Generated]) -> None:
    from atomsml.io.sdf import write_mols

    write_mols(path, map(sdf_record, molecules))


def sdf_record(molecule: Generated) -> Mol:
    """The Mol that an SDF holds, with its properties; "bonds" says where they come from."""
    from atomsml.io.sdf import mol_of_atoms

    atoms, found = molecule.atoms.copy(), molecule.bonding
    if not found.reason:
        atoms.info["bonds"] = found.bonds
        atoms.set_initial_charges(found.charges)
    mol, bonds = mol_of_atoms(atoms)
    if not found.reason:
        bonds = "perceived" if molecule.known is None else "drawn"
    for name, value in {**molecule.properties(), "bonds": bonds}.items():
        mol.SetProp("SMILES" if name == "smiles" else name, str(value))
    mol.SetProp("_Name", f"{molecule.index} {molecule.atoms.get_chemical_formula('hill')}")
    return mol


def _write_xyz(path: Path, molecules: Sequence[Generated]) -> None:
    from ase.io.extxyz import write_extxyz

    with path.open("w", encoding="utf-8") as file:
        for molecule in molecules:
            atoms = molecule.atoms.copy()
            atoms.info = molecule.properties()
            write_extxyz(file, [atoms])


def _write_csv(path: Path, molecules: Sequence[Generated]) -> None:
    columns = ["index", "seed", "formula", "smiles", "valid", "reason", "strain_kcal_mol"]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(molecule.properties() for molecule in molecules)


WRITERS: dict[str, Callable[[Path, Sequence[Generated]], None]] = {
    ".sdf": _write_sdf,
    ".xyz": _write_xyz,
    ".extxyz": _write_xyz,
    ".csv": _write_csv,
}
