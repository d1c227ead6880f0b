"""Suite `edm`: stability, validity, uniqueness and novelty as the EDM paper and its code count them.

Hoogeboom, Satorras, Vignac, Welling, "Equivariant Diffusion for Molecule Generation in 3D" (2022), section 5.1 and
appendix E. Two atoms share a bond of the highest order o for which

    distance < L_o(elements) + m_o,    m_1 = 10 pm, m_2 = 5 pm, m_3 = 3 pm,

where L_o are the average lengths of single, double and triple bonds that tables of chemistry list. An atom is stable
if its bond orders sum to a valence its element may have; a molecule is stable if all its atoms are. A molecule is valid
if RDKit sanitizes these bonds. RDKit gives hydrogens to atoms that lack bonds, and charges to nitro groups and the
like, so that only too many bonds, or aromatic rings without a Kekule structure, are wrong. A molecule is called by the
SMILES of its largest piece, with all hydrogens as atoms.

| metric | of | meaning |
|---|---|---|
| atom_stability | atoms | stable |
| molecule_stability | molecules | all atoms stable |
| validity | molecules | RDKit sanitizes |
| uniqueness | valid | different SMILES, as a fraction of the valid |
| validity_x_uniqueness | molecules | different SMILES, as a fraction of all |
| novelty | different SMILES | not in the reference, whose bonds are found in the same way |

The margins were tuned on QM9, of which about 99 % of the atoms and 95 % of the molecules are stable by this rule. It
does not ask whether the molecule is one piece, and pairs of elements that the tables do not list share no bond:
compare its numbers on molecules like those of QM9 only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import ase
import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from atomsml.generative.core.metrics import SuiteResult, fraction, ratio

if TYPE_CHECKING:
    from rdkit.Chem import Mol

VERSION = "edm-2"
MARGINS = (0.10, 0.05, 0.03)  # Angstrom, of single, double and triple bonds

# average bond lengths in pm, each pair of elements once
SINGLE: Mapping[str, Mapping[str, int]] = {
    "H": {"H": 74, "B": 119, "C": 109, "N": 101, "O": 96, "F": 92, "Si": 148, "P": 144, "S": 134},
    "B": {"Cl": 175},
    "C": {"C": 154, "N": 147, "O": 143, "F": 135, "Si": 185, "P": 184, "S": 182, "Cl": 177, "Br": 194, "I": 214},
    "N": {"N": 145, "O": 140, "F": 136, "P": 177, "S": 168, "Cl": 175, "Br": 214, "I": 222},
    "O": {"O": 148, "F": 142, "Si": 163, "P": 163, "S": 151, "Cl": 164, "Br": 172, "I": 194},
    "F": {"F": 142, "Si": 160, "P": 156, "S": 158, "Cl": 166, "Br": 178, "I": 187},
    "Si": {"Si": 233, "S": 200, "Cl": 202, "Br": 215, "I": 243},
    "P": {"P": 221, "S": 210, "Cl": 203, "Br": 222},
    "S": {"S": 204, "Cl": 207, "Br": 225, "I": 234},
    "Cl": {"H": 127, "Cl": 199, "Br": 214},
    "As": {"H": 152},
    "Br": {"H": 141, "Br": 228},
    "I": {"H": 161, "I": 266},
}
DOUBLE: Mapping[str, Mapping[str, int]] = {
    "C": {"C": 134, "N": 129, "O": 120, "S": 160},
    "N": {"N": 125, "O": 121},
    "O": {"O": 121, "P": 150},
    "P": {"S": 186},
}
TRIPLE: Mapping[str, Mapping[str, int]] = {"C": {"C": 120, "N": 116, "O": 113}, "N": {"N": 110}}

VALENCES: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(("H", "F", "Cl", "Br", "I"), (1,)),
    **dict.fromkeys(("B", "N", "Al", "As"), (3,)),
    **dict.fromkeys(("C", "Si", "S"), (4,)),
    **dict.fromkeys(("P", "Bi"), (3, 5)),
    "O": (2,),
    "Hg": (1, 2),
}


@dataclass(frozen=True)
class Stability:
    """Which atoms of which molecules are stable."""

    valences: tuple[np.ndarray, ...]  # each (atoms,): the sum of the bond orders of each atom
    stable: tuple[np.ndarray, ...]  # each (atoms,) of bool

    @property
    def molecules(self) -> np.ndarray:
        """(molecules,) whether every atom is stable; a molecule without atoms is not."""
        return np.array([len(atoms) > 0 and bool(atoms.all()) for atoms in self.stable], dtype=bool)

    @property
    def atom_fraction(self) -> float:
        """Stable atoms of all atoms; NaN where there are none."""
        count = sum(len(atoms) for atoms in self.stable)
        return sum(int(atoms.sum()) for atoms in self.stable) / count if count else np.nan

    @property
    def molecule_fraction(self) -> float:
        """Stable molecules of all molecules; NaN where there are none."""
        return float(self.molecules.mean()) if self.stable else np.nan


def stability(molecules: Sequence[ase.Atoms]) -> Stability:
    """The stability of each atom; cells are not looked at. Elements without a valence in the table are not stable."""
    valences = tuple(bond_orders(atoms.numbers, atoms.positions).sum(axis=1) for atoms in molecules)
    stable = tuple(_ALLOWED[atoms.numbers, np.minimum(v, _MOST)] for atoms, v in zip(molecules, valences, strict=True))
    return Stability(valences, stable)


def edm(molecules: Sequence[ase.Atoms], reference: Sequence[ase.Atoms] | None = None) -> SuiteResult:
    """The suite; a reference of molecules, as those of training, adds novelty."""
    found = stability(molecules)
    parts, sizes = np.array([atoms.sum() for atoms in found.stable]), np.array([len(atoms) for atoms in molecules])
    smiles = [largest_smiles(atoms) for atoms in molecules]
    valid, different = sum(name != "" for name in smiles), set(smiles) - {""}
    metrics = {
        "atom_stability": ratio(parts, sizes),
        "molecule_stability": fraction(int(found.molecules.sum()), len(molecules)),
        "validity": fraction(valid, len(molecules)),
        "uniqueness": fraction(len(different), valid),
        "validity_x_uniqueness": fraction(len(different), len(molecules)),
    }
    if reference is not None:
        known = {whole_smiles(atoms) for atoms in reference}
        metrics["novelty"] = fraction(len(different - known), len(different))
    return SuiteResult(
        version=VERSION,
        thresholds={
            "margins of single, double and triple bonds A": MARGINS,
            "bonds": "single, double, triple by distance, no formal charges; RDKit adds the hydrogens that are missing",
            "of several pieces": "the one with most atoms",
            "smiles": "RDKit canonical, hydrogens as atoms, without stereochemistry",
        },
        metrics=metrics,
        failures=tuple(map(_unstable, molecules, found.valences, found.stable)),
        columns={"edm_valid": tuple(float(name != "") for name in smiles)},
    )


def largest_smiles(atoms: ase.Atoms) -> str:
    """Of the piece with most atoms, the first of several; "" where RDKit does not sanitize the molecule."""
    from rdkit import Chem

    mol = _sanitized(atoms)
    if mol is None:
        return ""
    return str(Chem.MolToSmiles(max(Chem.GetMolFrags(mol, asMols=True), key=Chem.Mol.GetNumAtoms)))


def whole_smiles(atoms: ase.Atoms) -> str:
    """Of all pieces, as molecules of a reference are called; "" where RDKit does not sanitize the molecule."""
    from rdkit import Chem

    mol = _sanitized(atoms)
    return "" if mol is None else str(Chem.MolToSmiles(mol))


def _sanitized(atoms: ase.Atoms) -> Mol | None:
    """With the bonds of `bond_orders`; None for what RDKit refuses, and for what is no molecule in space."""
    from rdkit import Chem
    from rdkit.rdBase import BlockLogs

    if len(atoms) == 0 or not np.isfinite(atoms.positions).all():
        return None
    mol, orders = Chem.RWMol(), bond_orders(atoms.numbers, atoms.positions)
    for number in atoms.numbers.tolist():
        mol.AddAtom(Chem.Atom(number))
    kinds = Chem.BondType.values
    for first, second in np.argwhere(np.triu(orders)).tolist():
        mol.AddBond(first, second, kinds[int(orders[first, second])])
    with BlockLogs():
        try:
            Chem.SanitizeMol(mol)
        except ValueError:
            return None
    return mol


def _unstable(atoms: ase.Atoms, valences: np.ndarray, stable: np.ndarray) -> str:
    """Why a molecule is not stable; "" if it is."""
    if len(atoms) == 0:
        return "no atoms"
    if stable.all():
        return ""
    first, count = int(np.argmin(stable)), int((~stable).sum())
    others = f", and {count - 1} more unstable atoms" if count > 1 else ""
    return f"atom {first}: {chemical_symbols[atoms.numbers[first]]} with valence {valences[first]}{others}"


def bond_orders(numbers: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """(atoms, atoms) bond order 0 to 3 of every pair, by distance."""
    distances = np.linalg.norm(positions[:, None] - positions, axis=-1)
    np.fill_diagonal(distances, np.inf)
    # the limits of a pair fall with the order, so that the orders whose limit holds can be counted
    return (distances < _LIMITS[:, numbers[:, None], numbers]).sum(axis=0)


def _limits() -> np.ndarray:
    """(3, 119, 119) the distance in Angstrom below which two elements share a bond of order 1, 2, 3; 0 for none."""
    limits = np.zeros((3, 119, 119))
    for order, lengths in enumerate((SINGLE, DOUBLE, TRIPLE)):
        for first, row in lengths.items():
            for second, length in row.items():
                i, j = atomic_numbers[first], atomic_numbers[second]
                limits[order, i, j] = limits[order, j, i] = length / 100 + MARGINS[order]
    return limits


_MOST = 8  # no element may have as many bonds


def _allowed() -> np.ndarray:
    """(119, valences) whether an element may have a valence."""
    allowed = np.zeros((119, _MOST + 1), dtype=bool)
    for symbol, valences in VALENCES.items():
        allowed[atomic_numbers[symbol], list(valences)] = True
    return allowed


_LIMITS, _ALLOWED = _limits(), _allowed()
