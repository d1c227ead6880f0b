"""Force constants beside phonopy's own way: its search in the supercell, its displacements, its fit."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from phonopy import Phonopy
from phonopy.structure.atoms import PhonopyAtoms

from atomsml.properties.engine import Engine
from atomsml.properties.phonons.displacements import directions
from atomsml.properties.phonons.force_constants import Displaced

CUAU = bulk("CuAu", "cesiumchloride", a=3.07)
CASES = {
    "one atom, vectors that are no multiples": (bulk("Cu", a=3.6), [[-2, 2, 2], [2, -2, 2], [2, 2, -2]]),
    "a cell that is not primitive, in a supercell of less symmetry": (
        bulk("Cu", a=3.6, cubic=True),
        np.diag([2, 2, 3]),
    ),
    "hexagonal": (bulk("Au", "hcp", a=2.9, c=4.7), np.diag([3, 3, 2])),
    "atoms far outside the cell": (Atoms("CuAu", CUAU.positions + 7.3, cell=CUAU.cell, pbc=True), np.diag([3, 3, 3])),
    "hardly any symmetry": (
        Atoms(
            "CuAuCu",
            [(0, 0, 0), (1.9, 2.3, 1.7), (2.2, 0.1, 3.1)],
            cell=[[4, 0, 0], [0.4, 4.4, 0], [1, 0.7, 4.6]],
            pbc=True,
        ),
        np.diag([2, 2, 2]),
    ),
}


def by_phonopy(cell, matrix, distance):
    unit = PhonopyAtoms(list(cell.symbols), cell=cell.cell.array, scaled_positions=cell.get_scaled_positions())
    found = Phonopy(unit, np.transpose(matrix))
    found.generate_displacements(distance=distance)
    return found


@pytest.mark.parametrize("name", CASES)
def test_are_those_of_phonopy(name):
    cell, matrix = CASES[name]
    engine = Engine.of_ase(EMT())
    displaced = Displaced.of(cell, np.array(matrix), 0.01)
    ours = displaced.solve(engine.evaluate(displaced.images)).phonopy()
    theirs = by_phonopy(cell, matrix, 0.01)
    assert len(displaced.moves) <= len(theirs.displacements)
    # of our displacements and forces phonopy's fit makes the same, but for how sums are made to vanish
    theirs.dataset = ours.dataset
    theirs.produce_force_constants(calculate_full_force_constants=False, show_drift=False)
    theirs.symmetrize_force_constants(show_drift=False)
    assert ours.force_constants == pytest.approx(theirs.force_constants, abs=1e-4)
    assert np.abs(ours.force_constants.sum(axis=1)).max() < 1e-12
    # what phonopy finds in the supercell is there when it is asked for
    assert ours.symmetry.dataset.number == theirs.symmetry.dataset.number
    assert len(ours.primitive_symmetry.pointgroup_operations) == len(theirs.primitive_symmetry.pointgroup_operations)


def test_displacements_of_phonopy_give_the_same_crystal():
    """Along other directions, of other atoms: fourth derivatives differ, by 0.003^2 of them."""
    cell, matrix = CASES["hexagonal"]
    engine = Engine.of_ase(EMT())
    displaced = Displaced.of(cell, matrix, 0.003)
    ours = displaced.solve(engine.evaluate(displaced.images)).phonopy()
    theirs = by_phonopy(cell, matrix, 0.003)
    cells = [
        Atoms(each.symbols, each.positions, cell=each.cell, pbc=True) for each in theirs.supercells_with_displacements
    ]
    theirs.forces = [each.get_forces() for each in engine.evaluate(cells)]
    theirs.produce_force_constants(calculate_full_force_constants=False, show_drift=False)
    assert ours.force_constants == pytest.approx(theirs.force_constants, abs=1e-3)


def test_directions_are_as_few_as_the_site_allows():
    identity, inversion = np.eye(3), -np.eye(3)
    mirror = np.diag([1.0, 1.0, -1.0])
    skew = np.array([[2.5, 0, 0], [7.3, 2.4, 0], [1, 9, 2.6]])
    assert len(directions(identity[None], skew)) == 6
    assert len(directions(np.stack([identity, inversion]), skew)) == 3
    found = np.array(directions(np.stack([identity, mirror]), np.eye(3)))
    assert len(found) == 4
    assert found.sum(axis=0) == pytest.approx(0)
    assert np.linalg.norm(found, axis=1) == pytest.approx(1)
