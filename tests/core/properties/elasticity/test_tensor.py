"""Elastic tensors beside pymatgen's, and beside what is known of isotropic crystals and of copper."""

import numpy as np
import pytest
from ase.units import _amu
from pymatgen.analysis.elasticity import ElasticTensor as ElasticTensorOfPymatgen
from scipy.spatial.transform import Rotation

from atomsml.properties.elasticity.tensor import ElasticTensor

# GPa, about those of alpha-quartz
QUARTZ = ElasticTensor(
    np.array(
        [
            [87.2, 6.6, 12.0, -18.0, 0, 0],
            [6.6, 87.2, 12.0, 18.0, 0, 0],
            [12.0, 12.0, 105.8, 0, 0, 0],
            [-18.0, 18.0, 0, 57.3, 0, 0],
            [0, 0, 0, 0, 57.3, -18.0],
            [0, 0, 0, 0, -18.0, 40.3],
        ]
    )
)
TURN = Rotation.from_rotvec([0.4, -0.8, 0.3]).as_matrix()


def cubic(c11, c12, c44):
    voigt = np.diag([c11 - c12] * 3 + [c44] * 3).astype(float)
    voigt[:3, :3] += c12
    return ElasticTensor(voigt)


def isotropic(bulk, shear):
    return cubic(bulk + 4 / 3 * shear, bulk - 2 / 3 * shear, shear)


def test_averages_are_those_of_pymatgen():
    other = ElasticTensorOfPymatgen.from_voigt(QUARTZ.voigt)
    ours = [QUARTZ.bulk_voigt, QUARTZ.bulk_reuss, QUARTZ.bulk, QUARTZ.shear_voigt, QUARTZ.shear_reuss, QUARTZ.shear]
    theirs = [other.k_voigt, other.k_reuss, other.k_vrh, other.g_voigt, other.g_reuss, other.g_vrh]
    assert ours == pytest.approx(theirs, rel=1e-12)
    assert QUARTZ.anisotropy == pytest.approx(other.universal_anisotropy, rel=1e-10)
    assert QUARTZ.poisson == pytest.approx(other.homogeneous_poisson, rel=1e-12)
    assert QUARTZ.young * 1e9 == pytest.approx(other.y_mod, rel=1e-12)


def test_turns_as_pymatgen():
    other = ElasticTensorOfPymatgen.from_voigt(QUARTZ.voigt)
    assert np.allclose(QUARTZ.full, other, atol=1e-12)
    assert np.allclose(QUARTZ.rotated(TURN).voigt, other.rotate(TURN, tol=1e-9).voigt, atol=1e-10)


def test_turning_changes_no_average():
    turned = QUARTZ.rotated(TURN)
    assert np.allclose(turned.eigenvalues, QUARTZ.eigenvalues)
    assert [turned.bulk, turned.shear] == pytest.approx([QUARTZ.bulk, QUARTZ.shear])
    directions = np.random.default_rng(0).normal(size=(5, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    assert np.allclose(turned.young_along(directions @ TURN.T), QUARTZ.young_along(directions))
    assert turned.mean_velocity(1.6) == pytest.approx(QUARTZ.mean_velocity(1.6), rel=1e-7)


def test_youngs_modulus_is_stress_over_strain():
    """A bar along a direction is pulled: strains solve Hooke's law in Voigt's notation."""
    direction = np.array([0.6, 0.48, 0.64])
    strain = np.linalg.solve(QUARTZ.voigt, np.outer(direction, direction).ravel()[[0, 4, 8, 5, 2, 1]])
    x, y, z, yz, xz, xy = strain
    matrix = np.array([[x, xy / 2, xz / 2], [xy / 2, y, yz / 2], [xz / 2, yz / 2, z]])
    assert QUARTZ.young_along(direction) == pytest.approx(1 / (direction @ matrix @ direction), rel=1e-12)


def test_of_what_is_isotropic():
    """G and K, two speeds of sound, and the Debye temperature of textbooks."""
    bulk, shear, density, per_volume = 76.0, 26.0, 1.63, 0.0602  # those of aluminium
    tensor = isotropic(bulk, shear)
    assert [tensor.bulk, tensor.shear, tensor.anisotropy] == pytest.approx([bulk, shear, 0], abs=1e-12)
    assert tensor.eigenvalues == pytest.approx([2 * shear] * 5 + [3 * bulk])
    assert tensor.young_along(np.eye(3)) == pytest.approx([tensor.young] * 3)
    in_si = density * _amu * 1e30
    longitudinal, transverse = (1e9 * (bulk + 4 / 3 * shear) / in_si) ** 0.5, (1e9 * shear / in_si) ** 0.5
    velocities = tensor.sound_velocities(np.array([0.6, 0, 0.8]), density)
    assert velocities == pytest.approx([transverse, transverse, longitudinal], rel=1e-6)
    mean = ((longitudinal**-3 + 2 * transverse**-3) / 3) ** (-1 / 3)
    planck, boltzmann = 6.62607015e-34, 1.380649e-23
    debye = planck / boltzmann * (3 * per_volume * 1e30 / (4 * np.pi)) ** (1 / 3) * mean
    assert tensor.mean_velocity(density) == pytest.approx(mean, rel=1e-6)
    assert tensor.debye_temperature(density, per_volume) == pytest.approx(debye, rel=1e-6)


def test_debye_temperature_of_copper():
    """From elastic constants at 0 K (Overton and Gaffney, Phys. Rev. 98, 969 (1955)); heat capacities say 344 K."""
    per_volume = 4 / 3.603**3
    assert cubic(176.2, 124.9, 81.8).debye_temperature(63.546 * per_volume, per_volume) == pytest.approx(344.5, abs=1)


def test_an_unstable_crystal_has_a_tensor_but_no_compliance():
    tensor = cubic(100.0, 120.0, 50.0)
    assert not tensor.stable
    assert tensor.eigenvalues[:2] == pytest.approx([-20, -20])
    assert tensor.bulk_voigt == pytest.approx(340 / 3)
    later = tensor.bulk, tensor.shear, tensor.young, tensor.poisson, tensor.anisotropy
    assert np.isnan([*later, tensor.debye_temperature(1.0, 0.05)]).all()
