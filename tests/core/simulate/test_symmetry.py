"""Space groups found by moyopy and kept, with spglib as the judge."""

from __future__ import annotations

import ase
import numpy as np
import pytest
import spglib
import torch
from ase.constraints import FixAtoms, FixSymmetry
from ase.neighborlist import neighbor_list
from ase.spacegroup import crystal

from atomsml.simulate.batching.in_flight import Room
from atomsml.simulate.model import Model
from atomsml.simulate.relax import RelaxSettings, relax_many
from atomsml.simulate.state import State
from atomsml.simulate.symmetry import find_orbits
from atomsml.testing.model_potentials import LennardJones

# of each crystal system, with inversions, screws, glides, centred and primitive
GROUPS = [2, 4, 5, 7, 9, 14, 15, 19, 20, 29, 33, 36, 43, 62, 64, 70, 76, 82, 88, 92, 96, 122, 136, 141, 146, 148, 152]
GROUPS += [161, 166, 167, 173, 176, 186, 194, 198, 199, 205, 206, 212, 216, 221, 225, 227, 230]
pytestmark = pytest.mark.filterwarnings("ignore:Set OLD_ERROR_HANDLING:DeprecationWarning")

ARGON = LennardJones()
TIGHT = 1e-5  # A


def _crystal(group: int) -> ase.Atoms:
    """Argon and neon at places as general as a few atoms allow, with the most general cell of the group."""
    a, b, c, alpha, beta, gamma = 9.0, 9.9, 10.8, 80.0, 97.0, 103.0
    if group > 2:
        alpha, gamma = 90.0, 90.0
    if group > 15:
        beta = 90.0
    if group > 74:
        b = a
    if group > 142:
        gamma = 120.0
    if group > 194:
        c, gamma = a, 90.0
    general = [(0.11, 0.17, 0.31)] if group < 75 else [(0.19, 0.19, 0.19)]
    places = [(0.0, 0.0, 0.085), (0.27, 0.05, 0.0)] if 75 <= group < 195 else general
    cell = [a, b, c, alpha, beta, gamma]
    atoms = crystal(["Ar", "Ne"][: len(places)], places, spacegroup=group, cellpar=cell, onduplicates="keep")
    nearest = neighbor_list("d", atoms, 9.0).min()
    atoms.set_cell(atoms.cell.array * 3.5 / nearest, scale_atoms=True)
    return atoms


def _number(atoms: ase.Atoms, tolerance: float = TIGHT) -> int:
    cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    found = spglib.get_symmetry_dataset(cell, symprec=tolerance)
    assert found is not None
    return int(found.number)


def _shaken(atoms: ase.Atoms, seed: int) -> ase.Atoms:
    """Off its symmetry by what files are."""
    atoms = atoms.copy()
    random = np.random.default_rng(seed)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + 1e-4 * random.normal(size=(3, 3))), scale_atoms=True)
    atoms.positions += 1e-3 * random.uniform(-1, 1, size=atoms.positions.shape)
    return atoms


def test_space_groups_survive_the_relaxation_of_their_cells() -> None:
    """Over thirty groups in a batch that swaps systems; spglib finds in the end what it found before the shaking."""
    ideal = [_crystal(group) for group in GROUPS]
    numbers = [_number(atoms, 1e-3) for atoms in ideal]
    assert len(set(numbers)) >= 30
    shaken = [_shaken(atoms, seed) for seed, atoms in enumerate(ideal)]
    settings = RelaxSettings(fmax=0.002, cell=True, steps=60, symmetry=0.02)
    done = {each.index: each for each in relax_many(shaken, Model(ARGON), settings, room=Room(atoms=400))}
    for i, (number, before) in enumerate(zip(numbers, shaken, strict=True)):
        after = done[i].atoms
        assert np.abs(after.cell.array - before.cell.array).max() > 1e-2  # it was relaxed
        assert _number(after) == number


@pytest.mark.parametrize("group", [14, 62, 136, 167, 205])
def test_forces_and_strains_are_what_ase_leaves(group: int) -> None:
    """Beside FixSymmetry of ASE, of random forces and a random stress."""
    atoms = _crystal(group)
    state = State.of([atoms])
    orbits, strains = find_orbits(state, 1e-3)
    np.testing.assert_allclose(state.positions.numpy(), atoms.positions, rtol=0, atol=1e-6)
    random = np.random.default_rng(0)
    forces, stress = random.normal(size=atoms.positions.shape), random.normal(size=(3, 3))
    stress = stress + stress.T
    theirs = FixSymmetry(atoms.copy(), symprec=1e-3)
    voigt = stress.ravel()[[0, 4, 8, 5, 2, 1]]
    expected, strained = forces.copy(), voigt.copy()
    theirs.adjust_forces(atoms, expected)
    theirs.adjust_stress(atoms, strained)
    np.testing.assert_allclose(orbits.leave(torch.from_numpy(forces)).numpy(), expected, rtol=0, atol=1e-6)
    ours = (strains[0] @ torch.from_numpy(stress.ravel())).reshape(3, 3).numpy()
    np.testing.assert_allclose(ours.ravel()[[0, 4, 8, 5, 2, 1]], strained, rtol=0, atol=1e-6)


def test_symmetry_and_constraints_together() -> None:
    """An atom that is held holds its whole orbit, and the group stays."""
    atoms = _shaken(_crystal(62), 0)
    atoms.set_constraint(FixAtoms([0]))
    settings = RelaxSettings(fmax=0.002, steps=40, symmetry=0.02)
    (done,) = relax_many([atoms], Model(ARGON), settings)
    fixed = State.of([atoms])
    find_orbits(fixed, 0.02)
    np.testing.assert_allclose(done.atoms.positions, fixed.positions.numpy(), rtol=0, atol=1e-12)  # one general orbit
    free = atoms.copy()
    free.set_constraint()
    (done,) = relax_many([free], Model(ARGON), settings)
    assert np.abs(done.atoms.positions - fixed.positions.numpy()).max() > 0.01
    np.testing.assert_allclose(done.atoms.cell.array, fixed.cell[0].numpy(), rtol=0, atol=1e-12)
    assert _number(done.atoms) == 62


def test_what_has_no_symmetry_to_find_is_refused() -> None:
    atoms = ase.Atoms("Ar2", [[0, 0, 0], [0, 0, 0.001]], cell=[4, 4, 4], pbc=True)
    with pytest.raises(ValueError, match=r"no symmetry can be found within 0.01 A"):
        list(relax_many([atoms], Model(ARGON), RelaxSettings(symmetry=0.01)))


def test_supercells_are_no_reason_to_warn(caplog: pytest.LogCaptureFixture) -> None:
    """Whose lattice has less symmetry than their crystal."""
    atoms = _crystal(225) * (1, 1, 2)
    list(relax_many([atoms], Model(ARGON), RelaxSettings(steps=1, symmetry=0.01)))
    assert not caplog.records
