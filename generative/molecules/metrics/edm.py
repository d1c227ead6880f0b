"""Suite `edm`: atom and molecule stability as the EDM paper counts them.

Hoogeboom, Satorras, Vignac, Welling, "Equivariant Diffusion for Molecule Generation in 3D" (2022), section 5.1 and
appendix E. Two atoms share a bond of the highest order o for which

    distance < L_o(elements) + m_o,    m_1 = 10 pm, m_2 = 5 pm, m_3 = 3 pm,

where L_o are the average lengths of single, double and triple bonds that tables of chemistry list. An atom is stable
if its bond orders sum to a valence its element may have; a molecule is stable if all its atoms are. The margins were
tuned on QM9, of which about 99 % of the atoms and 95 % of the molecules are stable by this rule. It knows neither
charges nor aromatic bonds, does not ask whether the molecule is one piece, and pairs of elements that the tables do
not list share no bond: compare its numbers on molecules like those of QM9 only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ase
import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from atomsml.generative.molecules.metrics.results import SuiteResult, fraction, ratio

VERSION = "edm-1"
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


def edm(molecules: Sequence[ase.Atoms]) -> SuiteResult:
    """The suite: stability, and the first unstable atom of each molecule."""
    found = stability(molecules)
    parts, sizes = np.array([atoms.sum() for atoms in found.stable]), np.array([len(atoms) for atoms in molecules])
    return SuiteResult(
        version=VERSION,
        thresholds={"margins of single, double and triple bonds A": MARGINS},
        metrics={
            "atom_stability": ratio(parts, sizes),
            "molecule_stability": fraction(int(found.molecules.sum()), len(molecules)),
        },
        failures=tuple(map(_unstable, molecules, found.valences, found.stable)),
    )


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
