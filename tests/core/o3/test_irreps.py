"""Irreps against e3nn's reading of the same names."""

import pytest
from e3nn import o3

from atomsml.o3 import Irreps, IrrepTerm


@pytest.mark.parametrize("text", ["64x0e + 64x1o", "0e+1x1o + 3x2e", "2x3o", "16x0o+16x0e+8x1e", "0x0e + 4x8e"])
def test_equal_to_e3nn(text: str) -> None:
    irreps, expected = Irreps(text), o3.Irreps(text)
    assert irreps.dim == expected.dim
    assert irreps.slices() == expected.slices()
    assert [tuple(term) for term in irreps] == [(mul, ir.l, ir.p) for mul, ir in expected]


def test_round_trip_and_equality() -> None:
    irreps = Irreps(" 64x0e+1o ")
    assert str(irreps) == "64x0e + 1x1o"
    assert Irreps(str(irreps)) == irreps
    assert eval(repr(irreps), {"Irreps": Irreps}) == irreps
    assert irreps[1] == IrrepTerm(mul=1, degree=1, parity=-1)
    assert len({irreps, Irreps("64x0e + 1o")}) == 1


def test_empty() -> None:
    assert Irreps("").dim == 0
    assert Irreps("").slices() == []


@pytest.mark.parametrize("text", ["64x0", "x1o", "1o +", "-1x0e", "1o 2e", "1.5x0e"])
def test_unreadable(text: str) -> None:
    with pytest.raises(ValueError, match='write terms such as "64x0e'):
        Irreps(text)
