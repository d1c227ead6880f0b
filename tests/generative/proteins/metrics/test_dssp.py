"""DSSP against the program's own output, and shapes whose structure is known."""

from __future__ import annotations

import numpy as np
import pytest

from atomsml.generative.proteins.metrics.dssp import assign
from tests.generative.proteins.metrics.shapes import FIXTURES, HELIX, antiparallel_sheet, fixture, ideal

REFERENCE = dict(line.split() for line in (FIXTURES / "dssp.txt").read_text().splitlines())


@pytest.mark.parametrize("name", REFERENCE)
def test_letters_are_those_of_the_program(name: str) -> None:
    chain = fixture(name)
    expected = REFERENCE[name].translate(str.maketrans("TS", "--"))
    assert set("H-") < set(expected)
    assert assign(chain.coordinates, chain.sequence) == expected


@pytest.mark.parametrize(("angles", "letter"), [(HELIX, "H"), ((-49.0, -26.0), "G"), ((-57.0, -70.0), "I")])
def test_ideal_helices(angles: tuple[float, float], letter: str) -> None:
    assert set(assign(ideal(*angles, 14), "G" * 14)[2:-2]) == {letter}


def test_proline_gives_no_hydrogen() -> None:
    helix = ideal(*HELIX, 14)
    assert "H" not in assign(helix, "P" * 14)


def test_an_antiparallel_sheet_is_two_strands_and_one_strand_alone_is_none() -> None:
    sheet = antiparallel_sheet(9)
    assert assign(sheet, "G" * 18) == "-EEEEEEE-" * 2
    assert assign(sheet[:9], "G" * 9) == "-" * 9


def test_two_pieces_of_a_helix_are_no_turn_over_the_break() -> None:
    helix = ideal(*HELIX, 20)
    helix[10:] += np.array([0, 0, 40.0])
    assert assign(helix, "G" * 20) == "-HHHHHHHH-" * 2


@pytest.mark.parametrize("residues", [0, 1, 2, 3])
def test_few_residues_are_coil(residues: int) -> None:
    assert assign(ideal(*HELIX, 5)[:residues], "G" * residues) == "-" * residues
