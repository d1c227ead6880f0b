"""Scans beside loops with ASE's FixInternals and BFGS, of the same calculator."""

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.constraints import FixInternals
from ase.optimize import BFGS

from atomsml import AtomsMLCalculator
from atomsml.io.molecules import atoms_from_smiles
from atomsml.properties.engine import Engine
from atomsml.properties.scan.driven import Driven
from atomsml.properties.scan.scans import ScanSettings, scans
from atomsml.properties.task import Failure, Start

FMAX = 0.005
# energies of two minimisations to FMAX differ by FMAX^2 / 2 k of each soft coordinate, with k of some 0.1 eV/A^2
SAME = 5e-4


@pytest.fixture(scope="module")
def calculator():
    return AtomsMLCalculator("organic-xtb", precision="float64")


def test_torsions_of_several_molecules_as_by_hand_with_ase(calculator):
    molecules = [molecule("CH3OH"), molecule("C2H6")]
    turn = Driven("torsion", "[#1]C[#6,#8][#1]", 0, 90, 90)
    settings = ScanSettings((turn,))
    found = dict(scans(molecules, Engine.of(calculator), settings, Start(FMAX)))
    for i, scan in found.items():
        [coordinate] = scan.coordinates
        expected = []
        for value in turn.values:
            atoms = scan.atoms.copy()
            atoms.set_dihedral(*coordinate.atoms, value, indices=coordinate.side)
            atoms.set_constraint(FixInternals(dihedrals_deg=[[value, list(coordinate.atoms)]]))
            atoms.calc = calculator
            BFGS(atoms, logfile=None).run(fmax=FMAX, steps=500)
            expected.append(atoms.get_potential_energy())
        np.testing.assert_allclose(scan.energies, expected, rtol=0, atol=SAME)
        for frame, value in zip(scan.frames, turn.values, strict=True):
            assert abs((frame.get_dihedral(*coordinate.atoms) - value + 180) % 360 - 180) < 1e-8
        assert scan.settled, molecules[i]
        assert not scan.jumps
        assert not scan.reacted


def test_rigid_lengths_angles_and_torsions_are_energies_of_turned_molecules():
    methanol = molecule("CH3OH")  # C O H H H H
    for driven, turn in (
        (Driven("bond", (0, 1), 1.3, 1.6, 0.1), lambda a, v: a.set_distance(0, 1, v, fix=0, indices=[1, 3])),
        (Driven("angle", (0, 1, 3), 100, 120, 10), lambda a, v: a.set_angle(0, 1, 3, v)),
        (Driven("torsion", (2, 0, 1, 3), 0, -90, -45), lambda a, v: a.set_dihedral(2, 0, 1, 3, v)),
    ):
        settings = ScanSettings((driven,), rigid=True)
        [(_, scan)] = scans([methanol], Engine.of_ase(EMT()), settings, Start(relax=False))
        for value, energy in zip(driven.values, scan.energies, strict=True):
            atoms = methanol.copy()
            atoms.calc = EMT()
            turn(atoms, value)
            assert energy == pytest.approx(atoms.get_potential_energy(), abs=1e-9)


def test_two_coordinates_make_a_grid(calculator):
    """Symmetry of propane: turning one methyl or the other is the same, and so is 120 degrees as none."""
    driven = [Driven("torsion", atoms, 0, 120, 60) for atoms in ((3, 0, 1, 2), (0, 1, 2, 8))]
    propane = atoms_from_smiles("CCC")
    [(_, scan)] = scans([propane], Engine.of(calculator), ScanSettings(tuple(driven)), Start(FMAX))
    assert scan.energies.shape == (3, 3)
    np.testing.assert_allclose(scan.energies, scan.energies.T, rtol=0, atol=SAME)
    np.testing.assert_allclose(scan.energies[0], scan.energies[2], rtol=0, atol=SAME)
    assert scan.energies[0, 0] - scan.energies[1, 1] == pytest.approx(np.ptp(scan.energies), abs=SAME)
    for frame, (one, other) in zip(scan.frames, [(i, j) for i in (0, 60, 120) for j in (0, 60, 120)], strict=True):
        assert frame.get_dihedral(3, 0, 1, 2) == pytest.approx(one, abs=1e-6) or one == 0
        assert frame.get_dihedral(0, 1, 2, 8) == pytest.approx(other, abs=1e-6) or other == 0


def test_neighbours_lead_to_lower_minima(calculator):
    """Glycol keeps its hydrogen bond on one side when it is turned rigidly, and finds that of the other side later."""
    turn = ScanSettings((Driven("torsion", (0, 1, 2, 3), -180, 180, 90),))
    alone = ScanSettings(turn.driven, from_neighbours=False)
    glycol, engine = atoms_from_smiles("OCCO"), Engine.of(calculator)
    [(_, tried)], [(_, not_tried)] = (
        scans([glycol], engine, turn, Start(0.02)),
        scans([glycol], engine, alone, Start(0.02)),
    )
    assert tried.improved > 0
    assert (tried.energies < not_tried.energies + SAME).all()
    assert (tried.energies < not_tried.energies - 0.01).any()
    np.testing.assert_allclose(tried.energies[1:], tried.energies[:0:-1], rtol=0, atol=2e-3)  # +phi and -phi


def test_bonds_that_break_and_double_bonds_that_turn_are_told(calculator):
    stretched = ScanSettings((Driven("bond", (0, 1), 1.5, 2.7, 1.2),), rigid=True)
    [(_, scan)] = scans([molecule("CH3CH2OH")], Engine.of(calculator), stretched)
    assert scan.broken == [(1,)]
    assert scan.reacted == []
    turned = ScanSettings((Driven("torsion", "CC=CC", 0, 90, 90),), rigid=True)
    [(_, scan)] = scans([atoms_from_smiles("C/C=C/C")], Engine.of(calculator), turned, Start(relax=False))
    assert scan.coordinates[0].double
    assert not scan.broken


@pytest.mark.parametrize(
    ("driven", "reason"),
    [
        (("torsion", (6, 0, 7, 1)), "no chain of bonds"),
        (("bond", (0, 40)), "its atoms are 0 to 17"),
        (("torsion", (0, 1, 2, 3)), "its atoms 1 and 2 are of one ring"),
        (("torsion", "CCCN"), "no torsion that matches 'CCCN'"),
    ],
)
def test_what_cannot_be_driven_is_told(driven, reason):
    settings = ScanSettings((Driven(*driven, 1, 2, 1),), rigid=True)
    cyclohexane = atoms_from_smiles("C1CCCCC1")
    [(_, found)] = scans([cyclohexane], Engine.of_ase(EMT()), settings, Start(relax=False))
    assert isinstance(found, Failure)
    assert reason in found.reason


def test_torsions_about_linear_chains_are_told():
    settings = ScanSettings((Driven("torsion", (0, 1, 2, 3), 0, 90, 30),), rigid=True)
    [(_, found)] = scans([atoms_from_smiles("CC#CC")], Engine.of_ase(EMT()), settings, Start(relax=False))
    assert "is not defined: its angle (0, 1, 2) is 1" in found.reason


def test_the_same_torsion_twice_is_told():
    twice = Driven("torsion", (0, 1, 2, 3), 0, 60, 60), Driven("torsion", (4, 1, 2, 3), 0, 60, 60)
    [(_, found)] = scans(
        [atoms_from_smiles("CC(C)CC")], Engine.of_ase(EMT()), ScanSettings(twice, rigid=True), Start(relax=False)
    )
    assert isinstance(found, Failure)


def test_a_crystal_is_refused():
    settings = ScanSettings((Driven("bond", (0, 1), 1, 2, 1),))
    with pytest.raises(ValueError, match="scans are of molecules"):
        list(scans([bulk("Cu", cubic=True)], Engine.of_ase(EMT()), settings))
