"""Ranges and names of coordinates."""

import numpy as np
import pytest

from atomsml.io.molecules import atoms_from_smiles
from atomsml.io.sdf import mol_with_bonds
from atomsml.properties.scan.driven import Driven, locate
from atomsml.properties.scan.scans import ScanSettings

NAN = float("nan")


def test_ranges_have_their_ends_but_a_whole_turn_has_its_start_only():
    assert Driven("bond", (0, 1), 1.0, 1.3, 0.1).values == pytest.approx([1.0, 1.1, 1.2, 1.3])
    assert Driven("torsion", (0, 1, 2, 3), 0, 100, 30).values == pytest.approx([0, 30, 60, 90])
    turn = Driven("torsion", (0, 1, 2, 3), 180, -180, -90)
    assert turn.closed
    assert turn.values == pytest.approx([180, 90, 0, -90])
    uneven = Driven("torsion", (0, 1, 2, 3), 0, 360, 50)
    assert not uneven.closed
    assert uneven.values == pytest.approx(np.arange(0, 351, 50))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("plane", (0, 1), 1, 2, 1), "unknown kind 'plane'"),
        (("torsion", (0, 1, 2), 0, 90, 10), "a torsion is of 4 atoms, not of 0,1,2"),
        (("angle", (0, 1), 90, 100, 10), "an angle is of 3 atoms"),
        (("torsion", (0, 1, 2, 0), 0, 90, 10), "names an atom twice"),
        (("torsion", (0, 1, 2, 3), 0, 90, 0), "of which the last is not 0"),
        (("torsion", (0, 1, 2, 3), 0, NAN, 10), "three numbers"),
        (("torsion", (0, 1, 2, 3), 0, 90, -10), "leads away"),
        (("torsion", (0, 1, 2, 3), 0, 720, 10), "over 360 degrees at most"),
        (("torsion", (0, 1, 2, 3), 0, 90, 1e-4), "more than 10000 points"),
        (("bond", (0, 1), 0, 2, 0.1), "above 0.1"),
        (("angle", (0, 1, 2), 90, 180, 10), "between 5 and 175 degrees"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Driven(*arguments)


def test_scans_of_no_or_three_coordinates_are_refused():
    turn = Driven("torsion", (0, 1, 2, 3), 0, 90, 1)
    for some in ((), (turn, turn, turn)):
        with pytest.raises(ValueError, match=f"one or two coordinates, got {len(some)}"):
            ScanSettings(some)
    fine = Driven("torsion", (0, 1, 2, 3), 0, 150, 1)
    with pytest.raises(ValueError, match="22801 points"):
        ScanSettings((fine, fine))


def test_patterns_name_atoms_in_order_or_by_their_numbers():
    ethanol = atoms_from_smiles("CCO")
    mol = mol_with_bonds(ethanol)
    plain = locate(Driven("torsion", "CCO[H]", 0, 90, 30), ethanol, mol)
    assert plain.atoms == (0, 1, 2, 8)
    assert plain.side == (2, 8)  # the oxygen lies on the axis
    assert plain.matches == 1
    mapped = locate(Driven("angle", "[C:1][CH2:2][O:3][H]", 90, 120, 30), ethanol, mol)
    assert mapped.atoms == (0, 1, 2)
    assert mapped.side == (2, 8)
    assert locate(Driven("bond", "[CH3][H]", 1, 1.2, 0.1), ethanol, mol).matches == 3


@pytest.mark.parametrize(("pattern", "message"), [("CC(", "cannot be parsed"), ("CC", "has 2 atoms, a torsion 4")])
def test_patterns_that_do_not_fit_are_refused(pattern, message):
    ethanol = atoms_from_smiles("CCO")
    with pytest.raises(ValueError, match=message):
        locate(Driven("torsion", pattern, 0, 90, 30), ethanol, mol_with_bonds(ethanol))
