"""States: to and from ASE without loss; systems come and go."""

import pytest
import torch
from ase.build import bulk, molecule
from ase.constraints import FixAtoms, FixCartesian, FixedLine, FixedPlane, Hookean

from atomsml.simulate.state import State, total


def test_state_comes_back_as_the_structures_that_were_given():
    structures = [bulk("Ar", cubic=True), molecule("CH3OH")]
    structures[1].set_constraint(FixAtoms([0]))
    structures[1].set_velocities([[0.1 * i, 0.0, 0.2] for i in range(6)])
    state = State.of(structures)
    assert total(torch.ones(10), state.batch, 2).tolist() == [4, 6]
    for before, after in zip(structures, state.write_to(structures), strict=True):
        assert (before.positions == after.positions).all()
        assert (before.cell == after.cell).all()
        assert before.get_velocities() == pytest.approx(after.get_velocities())
        assert len(before.constraints) == len(after.constraints)
    again = state.systems(torch.tensor([1])).join([state.systems(torch.tensor([0]))])
    assert again.index.tolist() == [1, 0]
    assert again.batch.tolist() == [0] * 6 + [1] * 4
    assert again.numbers.tolist() == [*structures[1].numbers, *structures[0].numbers]


@pytest.mark.parametrize(
    "constraint",
    [FixAtoms([0, 2]), FixCartesian([1], [True, False, True]), FixedLine([2], [1, 1, 0]), FixedPlane([3], [1, 2, 3])],
)
def test_what_constraints_leave_of_forces_is_what_ase_leaves(constraint):
    atoms = molecule("CH3OH")
    atoms.set_constraint(constraint)
    given = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    left = given.numpy().copy()
    constraint.adjust_forces(atoms, left)
    assert State.of([atoms]).held(given).numpy() == pytest.approx(left, abs=1e-14)


def test_other_constraints_are_refused():
    atoms = molecule("CH3OH")
    atoms.set_constraint(Hookean(0, 1, k=5))
    with pytest.raises(ValueError, match="a Hookean cannot be kept"):
        State.of([atoms])
