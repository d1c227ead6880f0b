"""What follows from force constants, beside sums over modes that are written out here."""

import sys

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.spacegroup import crystal
from phonopy import Phonopy
from phonopy.structure.atoms import PhonopyAtoms
from scipy import constants

from atomsml import AtomsMLCalculator
from atomsml.properties.engine import Engine
from atomsml.properties.phonons import modes
from atomsml.properties.phonons.force_constants import Displaced

EV = constants.e


def solved(atoms, engine, supercell):
    [atoms] = engine.evaluate([atoms])
    displaced = Displaced.of(atoms, np.diag(supercell), 0.01)
    return displaced.solve(engine.evaluate(displaced.images)).phonopy()


@pytest.fixture(scope="module")
def copper():
    return solved(bulk("Cu", a=3.6), Engine.of_ase(EMT()), (4, 4, 4))


@pytest.fixture(scope="module")
def rutile():
    """Of six atoms, two of them of another element, in a cell with unequal sides."""
    atoms = crystal(["Ti", "O"], [(0, 0, 0), (0.305, 0.305, 0)], spacegroup=136, cellpar=[4.6, 4.6, 2.95, 90, 90, 90])
    return solved(atoms, Engine.of(AtomsMLCalculator("universal-small")), (2, 2, 3))


def test_force_constants_are_those_of_phonopys_fit(rutile):
    """symfc solves for all symmetries at once; we take one after the other."""
    theirs = rutile.copy()
    theirs.dataset = rutile.dataset
    limit = sys.getrecursionlimit()
    theirs.produce_force_constants(fc_calculator="symfc", calculate_full_force_constants=False)
    sys.setrecursionlimit(limit)  # symfc lifts it for good, and a nested input would crash the process
    # what is left of the symmetries in the forces is their noise, 1e-5 eV/A of single precision, over 0.01 A
    assert rutile.force_constants == pytest.approx(theirs.force_constants, abs=2e-3)
    points = [(0, 0, 0), (0.5, 0, 0), (0.1, 0.2, 0.3)]
    rutile.run_qpoints(points)
    theirs.run_qpoints(points)
    assert rutile.qpoints.frequencies == pytest.approx(theirs.qpoints.frequencies, abs=0.02)


def test_a_mesh_has_gamma_and_stands_for_all_its_points(copper):
    mesh = modes.mesh(copper, 24.0)
    assert mesh.weights.sum() == pytest.approx(1)
    assert np.any(np.all(mesh.points == 0, axis=1))
    assert len(mesh.points) < np.prod(mesh.numbers) / 10
    whole = copper.run_mesh(mesh.numbers, is_gamma_center=True, is_mesh_symmetry=False, is_time_reversal=False)
    assert len(whole.frequencies) == np.prod(mesh.numbers)
    for power in (1, 2):
        mean = mesh.weights @ mesh.frequencies**power
        assert mean == pytest.approx(np.mean(np.sort(whole.frequencies, axis=1) ** power, axis=0), rel=1e-6)


def test_thermal_properties_are_sums_over_modes(copper):
    mesh = modes.mesh(copper, 24.0)
    temperatures = np.array([0.0, 100.0, 300.0, 1000.0])
    found = modes.thermal(copper, temperatures, cells=4)
    counts = mesh.frequencies > 1e-4  # all but the shifts at Gamma
    quantum = constants.h * mesh.frequencies[counts] * 1e12 / EV
    weights = 4 * np.broadcast_to(mesh.weights[:, None], counts.shape)[counts]
    assert weights.sum() == pytest.approx(4 * (3 - 3 * mesh.weights[0]))
    assert found.zero_point == pytest.approx(weights @ quantum / 2, rel=1e-6)
    assert found.free_energy[0] == pytest.approx(found.zero_point, rel=1e-6)
    assert found.entropy[0] == found.heat_capacity[0] == 0
    for i, kt in enumerate(temperatures * constants.k / EV):
        if i == 0:
            continue
        x = quantum / kt
        energy = weights @ (quantum / 2 + quantum / np.expm1(x))
        capacity = weights @ (x**2 * np.exp(x) / np.expm1(x) ** 2) * constants.k / EV
        free = weights @ (quantum / 2 + kt * np.log1p(-np.exp(-x)))
        # k of several years differ by 1e-6
        assert found.free_energy[i] == pytest.approx(free, abs=1e-5 * energy)
        assert found.free_energy[i] == pytest.approx(energy - temperatures[i] * found.entropy[i], abs=1e-5 * energy)
        assert found.heat_capacity[i] == pytest.approx(capacity, rel=1e-5)


def test_hot_crystals_hold_3r_for_each_atom(copper):
    mesh = modes.mesh(copper, 24.0)
    [capacity] = modes.thermal(copper, np.array([20_000.0]), cells=1).heat_capacity
    assert capacity * EV / constants.k == pytest.approx(3 - 3 / np.prod(mesh.numbers), rel=1e-4)


def test_states_are_as_many_as_modes(rutile):
    modes.mesh(rutile, 30.0)
    density = modes.density(rutile)
    assert np.trapezoid(density.states, density.frequencies) == pytest.approx(18, rel=0.02)


def test_bands_go_along_the_path_of_the_lattice(copper):
    bands = modes.bands(copper)
    assert bands.ends == [("Γ", "X"), ("X", "U"), ("K", "Γ"), ("Γ", "L"), ("L", "W"), ("W", "X")]
    assert bands.distances[0][-1] == pytest.approx(1 / 3.6)  # X is 2 pi / a away
    assert bands.frequencies[0][0] == pytest.approx(0, abs=1e-3)
    assert bands.frequencies[0][-1] == pytest.approx(bands.frequencies[1][0])
    for points, distances in zip(bands.points, bands.distances, strict=True):
        steps = np.linalg.norm(np.diff(points @ np.linalg.inv(copper.primitive.cell).T, axis=0), axis=1)
        assert np.diff(distances) == pytest.approx(steps)
        assert steps.max() < 0.02


def test_bands_do_not_depend_on_how_a_cell_is_given(copper):
    """The same lattice by other vectors: its points have other numbers, and the same frequencies."""
    atoms = bulk("Cu", a=3.6)
    sheared = Atoms("Cu", cell=np.array([[1, 0, 0], [1, 1, 0], [0, 1, 1]]) @ atoms.cell.array, pbc=True)
    [sheared] = Engine.of_ase(EMT()).evaluate([sheared])
    displaced = Displaced.of(
        sheared, np.round(4 * atoms.cell.array @ np.linalg.inv(sheared.cell.array)).astype(int), 0.01
    )
    other = modes.bands(displaced.solve(Engine.of_ase(EMT()).evaluate(displaced.images)).phonopy())
    ours = modes.bands(copper)
    assert other.ends == ours.ends
    for mine, its in zip(ours.frequencies, other.frequencies, strict=True):
        assert its == pytest.approx(mine, abs=2e-3)


def harmonic(constant):
    """A chain of planes along c whose neighbours hold each other by constants, which may be negative."""
    unit = PhonopyAtoms(symbols=["Al"], cell=np.diag([3.0, 3.1, 3.2]), scaled_positions=[(0, 0, 0)])
    phonopy = Phonopy(unit, np.diag([2, 2, 2]), np.eye(3))
    places = phonopy.supercell.scaled_positions * 2
    constants = np.zeros((1, 8, 3, 3))
    for axis in range(3):
        neighbour = int(np.argmin(np.abs(places - np.eye(3)[axis]).sum(axis=1)))
        constants[0, neighbour] = -2 * constant[axis] * np.eye(3)
        constants[0, 0] += 2 * constant[axis] * np.eye(3)
    phonopy.force_constants = constants
    return phonopy


def test_imaginary_modes_have_names_and_a_share():
    phonopy = harmonic((1.0, 1.0, -0.2))
    mesh, bands = modes.mesh(phonopy, 30.0), modes.bands(phonopy)
    found = {each.where: each for each in modes.imaginary(bands, mesh)}
    assert "at Z" in found
    assert not {"at Γ", "at X", "at Y"} & set(found)
    assert found["at Z"].point == pytest.approx((0, 0, 0.5))
    # w^2 = 4 K / m at the end of the zone
    expected = -np.sqrt(4 * 0.2 * EV / 1e-20 / (26.9815385 * constants.atomic_mass)) / (2 * np.pi) / 1e12
    assert found["at Z"].frequencies == pytest.approx([expected] * 3, rel=1e-5)
    numbers = [np.arange(n) / n for n in mesh.numbers]
    waves = [2 * np.sin(np.pi * x) ** 2 for x in numbers]
    curvature = waves[0][:, None, None] + waves[1][None, :, None] - 0.2 * waves[2][None, None, :]
    assert mesh.unstable == pytest.approx(np.mean(curvature < -1e-12), abs=1e-9)


def test_stable_crystals_have_none(copper):
    mesh = modes.mesh(copper, 24.0)
    assert modes.imaginary(modes.bands(copper), mesh) == []
    assert mesh.unstable == 0
