"""Relaxing many at once: Lennard-Jones clusters, whose lowest energies are known."""

from typing import Any, ClassVar

import ase
import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.cluster import Icosahedron
from ase.constraints import FixAtoms, FixBondLength, FixCartesian, FixedLine, FixedPlane
from ase.optimize import BFGS

from atomsml.graph import AtomicGraph
from atomsml.potential import Prediction
from atomsml.properties.engine import Engine
from atomsml.simulate.batching.in_flight import Room
from atomsml.simulate.model import Model
from atomsml.simulate.relax import RelaxSettings, relax_many

RADIUS = 2 ** (1 / 6)  # where the pair energy is lowest

# Hoare & Pal, Adv. Phys. 20, 161 (1971), in units of the well depth
LOWEST = {2: -1.0, 3: -3.0, 4: -6.0, 6: -12.712062, 13: -44.326801}


def lennard_jones(graph: AtomicGraph, forces: bool = True, stress: bool = False) -> Prediction:
    """E = sum over pairs 4 (r^-12 - r^-6), in eV and A."""
    positions = graph.positions.detach().requires_grad_()
    first, second = torch.triu_indices(len(positions), len(positions), offset=1)
    same = graph.batch[first] == graph.batch[second]
    first, second = first[same], second[same]
    inverse = (positions[first] - positions[second]).square().sum(dim=1) ** -3
    pairs = 4 * (inverse**2 - inverse)
    energy = torch.zeros(graph.num_systems, dtype=pairs.dtype).index_add(0, graph.batch[first], pairs)
    (gradient,) = torch.autograd.grad(energy.sum(), positions)
    return Prediction(energy.detach(), torch.zeros(graph.num_atoms), -gradient)


def _images() -> list[ase.Atoms]:
    """Each atom 0.05 A or so from where it will be."""
    corners = np.array([(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)]) / np.sqrt(8)
    octahedron = np.concatenate([np.eye(3), -np.eye(3)]) / np.sqrt(2)
    shapes = [corners[:2], corners[:3], corners, octahedron, Icosahedron("Ar", 2, latticeconstant=np.sqrt(2)).positions]
    images = [ase.Atoms(f"Ar{len(shape)}", RADIUS * shape) for shape in shapes]
    for i, atoms in enumerate(images):
        atoms.rattle(0.05, seed=i)
    return images


def test_minima_are_those_of_the_literature() -> None:
    images = _images()
    found = sorted(relax_many(images, Model(lennard_jones), RelaxSettings(fmax=1e-4)), key=lambda done: done.index)
    assert [done.index for done in found] == list(range(len(images)))
    for done, atoms, before in zip(found, images, _images(), strict=True):
        assert done.state.converged
        assert done.state.fmax <= 1e-4
        forces = lennard_jones(AtomicGraph.from_ase(done.atoms)).forces
        assert forces is not None
        assert done.state.fmax == pytest.approx(torch.linalg.vector_norm(forces, dim=1).max().item(), rel=1e-6)
        assert done.state.energy == pytest.approx(LOWEST[len(atoms)], abs=1e-6)
        assert done.start_energy > done.state.energy + 1e-3
        np.testing.assert_array_equal(atoms.positions, before.positions)  # copies are relaxed


def test_what_is_beside_a_structure_does_not_matter() -> None:
    together = {done.index: done for done in relax_many(_images(), Model(lennard_jones))}
    alone = {done.index: done for done in relax_many(_images(), Model(lennard_jones), room=Room(atoms=1))}
    for i in range(len(_images())):
        assert together[i].state.step == alone[i].state.step > 0
        np.testing.assert_allclose(together[i].atoms.positions, alone[i].atoms.positions, atol=1e-12)


def test_out_of_steps() -> None:
    (done,) = relax_many(_images()[:1], Model(lennard_jones), RelaxSettings(fmax=1e-6, steps=3))
    assert (done.state.step, done.state.reason) == (3, "out of steps")


def test_what_is_not_finite_stops_alone() -> None:
    def broken(graph: AtomicGraph, forces: bool = True, stress: bool = False) -> Prediction:
        prediction = lennard_jones(graph)
        prediction.energy[graph.atoms_per_system == 6] = torch.nan
        return prediction

    reasons = {done.index: done.state.reason for done in relax_many(_images(), Model(broken))}
    assert reasons.pop(3) == "energy or forces are not finite"
    assert set(reasons.values()) == {"converged"}


def test_a_hill_is_no_minimum() -> None:
    """Forces that point uphill and then vanish end where the energy is higher than at the start."""

    def flat(graph: AtomicGraph, forces: bool = True, stress: bool = False) -> Prediction:
        rise = graph.positions[:, 2].abs().clone()
        forces = torch.zeros_like(graph.positions)
        forces[:, 2] = torch.where(rise < 0.1, 0.5, 0.0)  # points uphill, and vanishes beyond 0.1 A
        return Prediction(rise.sum()[None], rise, forces)

    (done,) = relax_many([ase.Atoms("He", [(0, 0, 0)])], Model(flat), RelaxSettings(steps=100))
    assert done.state.reason == "energy rose"


def test_stress_of_a_fixed_cell_where_it_is_asked_for() -> None:
    """Of a crystal out of its minimum, whose cell stays; that of the calculator."""
    crystal = bulk("Cu", cubic=True, a=3.7)
    crystal.rattle(0.05, seed=2)
    found = [list(Engine.of_ase(EMT()).relax([crystal], RelaxSettings(stress=asked))) for asked in (True, False)]
    [[with_stress], [without]] = found
    atoms = with_stress.atoms.copy()
    atoms.calc = EMT()
    assert np.array_equal(atoms.cell, crystal.cell)
    assert with_stress.atoms.get_stress() == pytest.approx(atoms.get_stress(), abs=1e-10)
    assert "stress" not in without.atoms.calc.results


def test_cells_that_there_are_not() -> None:
    with pytest.raises(ValueError, match="periodic along all three axes"):
        list(relax_many(_images(), Model(lennard_jones), RelaxSettings(cell=True)))


def test_nothing() -> None:
    assert list(relax_many([], Model(lennard_jones))) == []


class LennardJones(Calculator):
    """The same energy for ASE's optimizers."""

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces"]

    def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        prediction = lennard_jones(AtomicGraph.from_ase(self.atoms))
        assert prediction.forces is not None
        energy = float(prediction.energy)
        self.results = {"energy": energy, "free_energy": energy, "forces": prediction.forces.numpy()}


@pytest.mark.parametrize(
    "constraints",
    [
        [FixAtoms([0, 5, 7])],
        [FixCartesian([1, 2, 3, 8, 9], mask=(True, False, True))],
        [FixedPlane([3, 8, 11], (1, 1, 0)), FixedLine([4, 6, 10], (0, 1, 2))],
        [FixAtoms([0, 5]), FixCartesian([7, 8], mask=(False, False, True))],
    ],
    ids=lambda constraints: "+".join(type(each).__name__ for each in constraints),
)
def test_constraints_are_kept_as_by_ase(constraints: list[Any]) -> None:
    """An icosahedron off its minimum, held in more than the six ways in which a cluster moves freely.

    Forces below 1e-6 eV/A over the softest curvature, 0.2 eV/A^2, leave positions uncertain by 5e-6 A.
    """
    atoms = _images()[4]
    atoms.set_constraint(constraints)
    theirs = atoms.copy()
    theirs.calc = LennardJones()
    BFGS(theirs, logfile=None).run(fmax=1e-6, steps=500)
    free = _images()[2]
    found = {done.index: done for done in relax_many([free, atoms], Model(lennard_jones), RelaxSettings(fmax=1e-6))}
    done = found[1]
    assert done.state.converged
    assert done.state.energy > LOWEST[13] + 1e-4  # the constraints matter
    assert done.state.energy == pytest.approx(theirs.get_potential_energy(), abs=1e-9)
    np.testing.assert_allclose(done.atoms.positions, theirs.positions, rtol=0, atol=1e-5)
    moved = done.atoms.positions - atoms.positions
    for constraint in constraints:
        along = moved.copy()
        constraint.adjust_forces(atoms, along)  # what it leaves of a move
        np.testing.assert_allclose(along, moved, rtol=0, atol=1e-13)
    assert found[0].state.energy == pytest.approx(LOWEST[4], abs=1e-6)  # the one beside it is free


def test_fixed_atoms_do_not_move_at_all() -> None:
    atoms = _images()[4]
    atoms.set_constraint(FixAtoms([0, 5]))
    (done,) = relax_many([atoms], Model(lennard_jones))
    np.testing.assert_array_equal(done.atoms.positions[[0, 5]], atoms.positions[[0, 5]])
    assert np.abs(done.atoms.positions - atoms.positions).max() > 0.01
    atoms.set_constraint(FixAtoms(range(13)))
    (done,) = relax_many([atoms], Model(lennard_jones))
    assert (done.state.step, done.state.reason) == (0, "converged")  # nothing is free to move


def test_other_constraints_are_refused_by_name_before_anything_is_computed() -> None:
    first, second = _images()[:2]
    second.set_constraint([FixAtoms([0]), FixBondLength(1, 2)])
    with pytest.raises(ValueError, match="bonds cannot be kept rigid in a relaxation"):
        list(relax_many([first, second], Model(lambda graph, forces=True, stress=False: pytest.fail("computed"))))
