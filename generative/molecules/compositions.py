"""Which atoms a molecule is made of: the compositions of a training set, drawn from under constraints.

p(formula) is the histogram of the training set. A generator that is given all atoms of a molecule then has only their
places to find; one that draws elements itself uses the marginal p(number of atoms), as equivariant diffusion does
(Hoogeboom et al., arXiv:2203.17003, section 3.3). Constraints select among the formulas that were seen; a formula
that was asked for as a whole is taken as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from torch import Tensor

MOST_ATOMS = 1000  # of a molecule: networks look at all pairs

Formula = Mapping[int, int]
"""Atomic number -> how many atoms."""


def parse_formula(text: str) -> dict[int, int]:
    """Counts by atomic number of a formula such as C6H6O.

        >>> from atomsml.generative.molecules.compositions import parse_formula
        >>> parse_formula("C6H6O")
        {6: 6, 1: 6, 8: 1}

    Raises:
        ValueError: no formula, an element that does not exist, a charge, or more than MOST_ATOMS atoms.
    """
    from ase.data import atomic_numbers
    from ase.formula import Formula as AseFormula

    if set("+-") & set(text):  # which ASE would drop
        raise ValueError(f"the formula {text} has a charge, and generators draw neutral molecules; leave the sign out")
    try:
        counts = AseFormula(text).count()
        found = {atomic_numbers[symbol]: count for symbol, count in counts.items() if count > 0}
    except (ValueError, KeyError):
        raise ValueError(f"{text!r} is no chemical formula; write element symbols with numbers, as in C6H6O") from None
    if not found:
        raise ValueError(f"the formula {text!r} has no atoms; write element symbols with numbers, as in C6H6O")
    if sum(found.values()) > MOST_ATOMS:
        raise ValueError(f"the formula {text} has more than {MOST_ATOMS} atoms; ask for a smaller molecule")
    return found


def format_formula(formula: Formula) -> str:
    """In Hill order: carbon, hydrogen, then the alphabet."""
    from ase.data import chemical_symbols
    from ase.formula import Formula as AseFormula

    return f"{AseFormula.from_dict({chemical_symbols[z]: count for z, count in formula.items()}):hill}"


def count_formulas(rows: Iterator[Sequence[int]], elements: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """(formulas, elements) counts of every distinct formula, and (formulas,) how often it occurs; a fixed order."""
    seen = Counter(tuple(np.bincount(row, minlength=max(elements) + 1)[list(elements)].tolist()) for row in rows)
    ordered = sorted(seen)
    return np.array(ordered, np.int64).reshape(-1, len(elements)), np.array([seen[f] for f in ordered], np.int64)


def draw_formula(
    formulas: Tensor,
    counts: Tensor,
    elements: Sequence[int],
    rng: np.random.Generator,
    num_atoms: int | None = None,
    contains: Formula | None = None,
) -> dict[int, int]:
    """One formula of the histogram that has `num_atoms` atoms and `contains` the given ones.

    Raises:
        ValueError: no formula of the histogram obeys, or it is empty.
    """
    table, weights = formulas.cpu().numpy(), counts.cpu().numpy().astype(np.float64)
    if len(table) == 0:
        raise ValueError("the model knows no compositions, because it was not trained; give the whole --formula")
    allowed = np.ones(len(table), bool)
    if num_atoms is not None:
        allowed &= table.sum(axis=1) == num_atoms
    for z, count in (contains or {}).items():
        allowed &= table[:, list(elements).index(z)] >= count if z in elements else False
    if not allowed.any():
        wanted = [f"{num_atoms} atoms"] if num_atoms is not None else []
        wanted += [f"at least {format_formula(contains)}"] if contains else []
        sizes = table.sum(axis=1)
        raise ValueError(
            f"the model knows no composition with {' and '.join(wanted)}; it was trained on {sizes.min()} to "
            f"{sizes.max()} atoms; give the whole --formula to insist"
        )
    weights = weights * allowed
    drawn = table[rng.choice(len(table), p=weights / weights.sum())]
    return {z: int(n) for z, n in zip(elements, drawn, strict=True) if n > 0}


def atoms_of(formula: Formula, first: Sequence[int] = ()) -> tuple[int, ...]:
    """Atomic numbers of a formula: the `first` ones, then the rest, heavy atoms before hydrogen.

    Raises:
        ValueError: the formula lacks one of the `first`.
    """
    left = Counter(dict(formula))
    left.subtract(Counter(first))
    lacking = {z: -n for z, n in left.items() if n < 0}
    if lacking:
        raise ValueError(
            f"the formula {format_formula(formula)} lacks {format_formula(lacking)} of the scaffold; ask for more atoms"
        )
    rest = sorted(left.elements(), key=lambda z: (z == 1, z))
    return (*first, *rest)
