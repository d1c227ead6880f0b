"""Relaxations with held coordinates beside ASE's FixInternals and BFGS, of the same calculator."""

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms, FixInternals
from ase.optimize import BFGS

from atomsml import AtomsMLCalculator
from atomsml.properties.engine import Engine
from atomsml.simulate.relax import RelaxSettings, relax
from atomsml.simulate.state import State

FMAX = 0.003


def _ethanol(**held):
    """C C O and the hydrogen of the oxygen are 0, 1, 2, 3; the oxygen with its hydrogen is turned to the values."""
    atoms = molecule("CH3CH2OH")
    for value, of in held.get("bonds", []):
        atoms.set_distance(*of, value, fix=0, indices=[2, 3])
    for value, of in held.get("angles_deg", []):
        atoms.set_angle(*of, value, indices=[2, 3] if of[-1] == 2 else [3])
    for value, of in held.get("dihedrals_deg", []):
        atoms.set_dihedral(*of, value if value is not None else atoms.get_dihedral(*of), indices=[3])
    atoms.set_constraint(FixInternals(**held))
    return atoms


HELD = {
    "length": {"bonds": [[1.55, [1, 2]]]},
    "angle": {"angles_deg": [[120.0, [0, 1, 2]]]},
    "torsion": {"dihedrals_deg": [[100.0, [0, 1, 2, 3]]]},
    "torsion as it is": {"dihedrals_deg": [[None, [0, 1, 2, 3]]]},
    "two": {"dihedrals_deg": [[90.0, [0, 1, 2, 3]]], "bonds": [[1.5, [1, 2]]]},
    "coupled": {"bonds": [[1.5, [1, 2]]], "angles_deg": [[104.0, [0, 1, 2]], [112.0, [1, 2, 3]]]},
}


def test_ends_where_ase_ends():
    """Energies differ by FMAX^2 / 2 k of each coordinate that is soft, with k of some 0.1 eV/A^2: below 0.1 meV."""
    calculator = AtomsMLCalculator("organic-xtb", precision="float64")
    ours = [_ethanol(**held) for held in HELD.values()]
    found = sorted(Engine.of(calculator).relax(ours, RelaxSettings(FMAX, 500)), key=lambda each: each.index)
    for each, start in zip(found, ours, strict=True):
        assert each.state.converged
        theirs = start.copy()
        theirs.calc = calculator
        BFGS(theirs, logfile=None).run(fmax=FMAX, steps=500)
        assert each.atoms.get_potential_energy() == pytest.approx(theirs.get_potential_energy(), abs=1e-4)
        [constraint] = start.constraints
        for value, indices in constraint.bonds:
            assert each.atoms.get_distance(*indices) == pytest.approx(value, abs=1e-10)
        for value, indices in constraint.angles:
            assert each.atoms.get_angle(*indices) == pytest.approx(value, abs=1e-8)
        for value, indices in constraint.dihedrals:
            value = start.get_dihedral(*indices) if value is None else value
            assert each.atoms.get_dihedral(*indices) == pytest.approx(value, abs=1e-8)


def test_beside_structures_that_hold_nothing_and_atoms_that_are_held():
    free, held = molecule("CH3CH2OH"), _ethanol(dihedrals_deg=[[60.0, [0, 1, 2, 3]]])
    held.set_constraint([*held.constraints, FixAtoms([0])])
    start = held.positions.copy()
    found = sorted(Engine.of_ase(EMT()).relax([free, held], RelaxSettings(0.01)), key=lambda each: each.index)
    assert all(each.state.converged for each in found)
    assert found[1].atoms.get_dihedral(0, 1, 2, 3) == pytest.approx(60, abs=1e-8)
    np.testing.assert_array_equal(found[1].atoms.positions[0], start[0])
    alone = molecule("CH3CH2OH")
    alone.calc = EMT()
    relax(alone, RelaxSettings(0.01))
    assert found[0].atoms.get_potential_energy() == pytest.approx(alone.get_potential_energy(), abs=1e-6)
    assert len(found[1].atoms.constraints) == 2


def test_of_one_structure_in_place():
    atoms = _ethanol(bonds=[[1.7, [0, 1]]])
    atoms.calc = EMT()
    assert relax(atoms, RelaxSettings(0.01)).converged
    assert atoms.get_distance(0, 1) == pytest.approx(1.7, abs=1e-10)


def test_what_cannot_be_held_is_refused():
    combined = FixInternals(bondcombos=[[1.0, [[0, 1, 1.0], [1, 2, -1.0]]]])
    for constraint, message in (
        (combined, "no combinations of bonds"),
        (FixInternals(bonds=[[1.5, [0, 0]]]), "different atoms between 0 and 8, not of \\[0, 0\\]"),
        (FixInternals(bonds=[[1.5, [0, 9]]]), "not of \\[0, 9\\]"),
    ):
        atoms = molecule("CH3CH2OH")
        atoms.set_constraint(constraint)
        with pytest.raises(ValueError, match=message):
            list(Engine.of_ase(EMT()).relax([atoms], RelaxSettings()))
    crystal = bulk("Cu", cubic=True)
    crystal.set_constraint(FixInternals(bonds=[[2.6, [0, 1]]]))
    with pytest.raises(ValueError, match="in a fixed cell only"):
        list(Engine.of_ase(EMT()).relax([crystal], RelaxSettings(cell=True)))


def test_other_runs_refuse_them():
    """What a simulation would forget it must not take."""
    atoms = molecule("CH3CH2OH")
    atoms.set_constraint(FixInternals(bonds=[[1.5, [0, 1]]]))
    with pytest.raises(ValueError, match="a FixInternals cannot be kept"):
        State.of([atoms])
