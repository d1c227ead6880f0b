"""Names and layouts of direct sums of irreducible representations of O(3)."""

import re
from typing import NamedTuple

_TERM = re.compile(r"\s*(?:(\d+)\s*x\s*)?(\d+)([eo])\s*")


class IrrepTerm(NamedTuple):
    """mul copies of the irrep of one degree and parity (+1 even, -1 odd), of 2 degree + 1 components each."""

    mul: int
    degree: int
    parity: int

    @property
    def dim(self) -> int:
        return self.mul * (2 * self.degree + 1)


class Irreps(tuple[IrrepTerm, ...]):
    """A direct sum of irreps, read from a text such as "64x0e + 32x1o".

        >>> from atomsml.o3 import Irreps
        >>> Irreps("64x0e + 32x1o").dim
        160

    The immutable sequence of its terms. A feature vector in this layout holds the terms one after the other; inside a
    term the copy is the slow index and the order m = -l ... l the fast one.
    Raises ValueError when the text is not a sum of terms MULxDEGREEPARITY (the multiplicity 1 may be left out).
    """

    def __new__(cls, text: str) -> "Irreps":
        return super().__new__(cls, [_parse_term(term, text) for term in text.split("+")] if text.strip() else [])

    @property
    def dim(self) -> int:
        return sum(term.dim for term in self)

    def slices(self) -> list[slice]:
        """Where each term stands in the last axis of a feature array."""
        stops = [sum(term.dim for term in self[: i + 1]) for i in range(len(self))]
        return [slice(stop - term.dim, stop) for term, stop in zip(self, stops, strict=True)]

    def __str__(self) -> str:
        return " + ".join(f"{mul}x{degree}{'e' if parity == 1 else 'o'}" for mul, degree, parity in self)

    def __repr__(self) -> str:
        return f'Irreps("{self}")'


def _parse_term(term: str, text: str) -> IrrepTerm:
    match = _TERM.fullmatch(term)
    if match is None:
        raise ValueError(f'cannot read {term.strip()!r} in irreps {text!r}: write terms such as "64x0e + 32x1o"')
    mul, degree, parity = match.groups()
    return IrrepTerm(int(mul or 1), int(degree), 1 if parity == "e" else -1)
