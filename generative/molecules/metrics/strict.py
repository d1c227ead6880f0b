"""Suite `strict`: molecules that are one piece, neutral, without radicals, and whose every atom has a usual valence.

Bonds are perceived from positions (`perception`). The valence of an atom is a pair: the number of its aromatic bonds,
and the sum of the orders of its other bonds. Which pairs are allowed depends on the element and on the formal charge.
Counting an aromatic bond as 1 or 1.5 and comparing with one number per element lets broken molecules pass (Nikitin et
al., "GEOM-drugs revisited", arXiv:2505.00169).

| metric | of | meaning |
|---|---|---|
| valid | all | bonds perceived, RDKit sanitises, allowed valences |
| valid_uncharged | all | valid, and no formal charges but in groups that have no other formula (`uncharged`) |
| valid_connected | all | valid, and one piece |
| unique | valid | different SMILES, as a fraction of the valid |
| novel | different SMILES | not in the reference |
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import ase
import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from atomsml.generative.core.metrics import Metric, SuiteResult, fraction
from atomsml.generative.molecules.metrics.perception import MAX_ATOMS, TIME_LIMIT, Perceived
from atomsml.io.bonds import CONTACT, REACH

VERSION = "strict-2"

# element -> formal charge -> (number of aromatic bonds, sum of the other bond orders)
VALENCES: Mapping[str, Mapping[int, Collection[tuple[int, int]]]] = {
    "H": {0: {(0, 1)}},
    "B": {0: {(0, 3), (2, 1), (3, 0)}, -1: {(0, 4), (2, 2)}},
    # a cation has no octet: only tropylium and its kin, whose ring shares the charge
    "C": {0: {(0, 4), (2, 1), (2, 2), (3, 0)}, -1: {(0, 3), (2, 0), (2, 1), (3, 0)}, 1: {(2, 1), (3, 0)}},
    "N": {0: {(0, 3), (2, 0), (2, 1), (3, 0)}, -1: {(0, 2), (2, 0)}, 1: {(0, 4), (2, 1), (3, 0)}},
    "O": {0: {(0, 2), (2, 0)}, -1: {(0, 1)}, 1: {(0, 3), (2, 0)}},  # the cation in carbon monoxide and ozone only
    "F": {0: {(0, 1)}, -1: {(0, 0)}},
    "Al": {0: {(0, 3)}, -1: {(0, 4)}},
    "Si": {0: {(0, 4)}},
    "P": {0: {(0, 3), (0, 5), (2, 0), (2, 1)}, -1: {(0, 2), (0, 6)}, 1: {(0, 4)}},
    "S": {0: {(0, 2), (0, 4), (0, 6), (2, 0)}, -1: {(0, 1)}, 1: {(0, 3), (0, 5), (2, 0)}},
    "Cl": {0: {(0, 1)}, -1: {(0, 0)}, 1: {(0, 2)}, 2: {(0, 3)}, 3: {(0, 4)}},  # oxygen acids, as RDKit writes them
    "As": {0: {(0, 3), (0, 5), (2, 0)}, 1: {(0, 4)}},
    "Se": {0: {(0, 2), (0, 4), (0, 6), (2, 0)}, -1: {(0, 1)}, 1: {(0, 3), (2, 0)}},
    "Br": {0: {(0, 1)}, -1: {(0, 0)}},
    "I": {0: {(0, 1), (0, 3), (0, 5)}, -1: {(0, 0)}, 1: {(0, 2)}},
}
_ALLOWED = {atomic_numbers[symbol]: valences for symbol, valences in VALENCES.items()}


def strict(
    molecules: Sequence[ase.Atoms], perceived: Sequence[Perceived], reference: Collection[str] | None = None
) -> SuiteResult:
    """Judge molecules by what was perceived of them; `reference` is a set of SMILES as perception writes them."""
    wrong = [invalid(atoms.numbers, found) for atoms, found in zip(molecules, perceived, strict=True)]
    rows = list(zip(molecules, perceived, wrong, strict=True))
    valid = [found for _, found, reason in rows if not reason]
    plain = [not reason and uncharged(atoms.numbers, found) for atoms, found, reason in rows]
    different = {found.smiles for found in valid}
    total, connected = len(molecules), sum(found.fragments == 1 for found in valid)
    metrics: dict[str, Metric] = {
        "valid": fraction(len(valid), total),
        "valid_uncharged": fraction(sum(plain), total),
        "valid_connected": fraction(connected, total),
        "unique": fraction(len(different), len(valid)),
    }
    if reference is not None:
        metrics["novel"] = fraction(len(different - set(reference)), len(different))
    pieces = [f"{found.fragments} pieces" if found.fragments > 1 else "" for found in perceived]
    return SuiteResult(
        version=VERSION,
        thresholds={
            "bonded below sum of covalent radii times": REACH,
            "of too many neighbours not bonded above": CONTACT,
            "total charge": 0,
            "perception time limit s": TIME_LIMIT,
            "perception atom limit": MAX_ATOMS,
            "smiles": "RDKit canonical, without stereochemistry",
        },
        metrics=metrics,
        failures=tuple(reason or piece for reason, piece in zip(wrong, pieces, strict=True)),
        columns={"valid_uncharged": tuple(map(float, plain))},
    )


def invalid(numbers: np.ndarray, found: Perceived) -> str:
    """Why a molecule is not valid; "" if it is."""
    if found.reason:
        return found.reason
    first, second, order = found.bonds.T
    ends, orders = np.concatenate([first, second]), np.concatenate([order, order])
    aromatic = np.bincount(ends, orders == 4, minlength=len(numbers)).astype(int)
    others = np.bincount(ends, np.where(orders == 4, 0, orders), minlength=len(numbers)).astype(int)
    rows = zip(numbers.tolist(), found.charges.tolist(), aromatic.tolist(), others.tolist(), strict=True)
    for atom, (number, charge, *valence) in enumerate(rows):
        symbol = chemical_symbols[number]
        if number not in _ALLOWED:
            return f"atom {atom}: no valences are known of {symbol}"
        if tuple(valence) not in _ALLOWED[number].get(charge, ()):
            return f"atom {atom}: {symbol}{charge:+d} with {valence[0]} aromatic bonds and {valence[1]} others"
        if symbol == "O" and charge > 0 and _unbalanced(found)[atom]:
            return f"atom {atom}: O+1 without a terminal anion beside it"
    return ""


def uncharged(numbers: np.ndarray, found: Perceived) -> bool:
    """Whether all formal charges are in groups that chemists take for neutral, for want of a formula without charges.

    These are a cation without hydrogen and, bonded to it, a terminal anion (one with no other neighbour) for each of
    its charges: nitro groups, N-oxides, azides, diazo groups, isocyanides, nitrile oxides, carbon monoxide, ozone. Not
    among them are zwitterions such as betaines and mesoionic rings, nor ylides.
    """
    protonated = np.zeros(len(numbers), bool)
    for first, second, _ in found.bonds.tolist():
        protonated[first] |= numbers[second] == 1
        protonated[second] |= numbers[first] == 1
    cations = found.charges > 0
    return not (_unbalanced(found).any() or (protonated & cations).any())


def _unbalanced(found: Perceived) -> np.ndarray:
    """(atoms,) formal charges that are left when terminal anions are added to the cations they are bonded to."""
    left = found.charges.copy()
    degree = np.bincount(found.bonds[:, :2].ravel(), minlength=len(left))
    for first, second, _ in found.bonds.tolist():
        for cation, anion in ((first, second), (second, first)):
            if left[cation] > 0 and left[anion] < 0 and degree[anion] == 1:
                left[cation] -= 1
                left[anion] += 1
    return left
