"""What point groups leave of elastic tensors beside crystallography's tables and pymatgen, which asks spglib."""

import numpy as np
import pytest
from ase import Atoms
from ase.spacegroup import crystal
from pymatgen.analysis.elasticity import ElasticTensor as ElasticTensorOfPymatgen
from pymatgen.io.ase import AseAtomsAdaptor
from scipy.spatial.transform import Rotation

from atomsml.properties.conventional import point_group
from atomsml.properties.elasticity.strains import (
    LEAST,
    fit,
    invariant_tensors,
    needed_strains,
    strained,
)
from atomsml.properties.elasticity.tensor import BASIS, ElasticTensor, to_mandel

TURN = Rotation.from_rotvec([0.3, 0.5, -0.9]).as_matrix()

# space group -> cell, independent constants (Nye, Physical Properties of Crystals, Table 9), strains that are enough
GROUPS = {
    1: ([5, 6, 7, 80, 95, 103], 21, 6),
    2: ([5, 6, 7, 80, 95, 103], 21, 6),
    3: ([5, 6, 7, 90, 103, 90], 13, 6),
    16: ([5, 6, 7, 90, 90, 90], 9, 6),
    75: ([5, 5, 7, 90, 90, 90], 7, 4),
    89: ([5, 5, 7, 90, 90, 90], 6, 4),
    143: ([6, 6, 7, 90, 90, 120], 7, 3),
    149: ([6, 6, 7, 90, 90, 120], 6, 3),
    168: ([6, 6, 7, 90, 90, 120], 5, 3),
    195: ([6, 6, 6, 90, 90, 90], 3, 2),
    225: ([9, 9, 9, 90, 90, 90], 3, 2),
}


def general(group):
    """A crystal whose atoms stand where no symmetry element is: it has the space group and no more."""
    atoms = crystal(["Si", "C"], [(0.11, 0.23, 0.37), (0.31, 0.07, 0.19)], spacegroup=group, cellpar=GROUPS[group][0])
    return Atoms(atoms.numbers, atoms.positions, cell=atoms.cell.array, pbc=True)


def turned(atoms):
    other = atoms.copy()
    other.set_cell(atoms.cell.array @ TURN.T, scale_atoms=True)
    return other


@pytest.mark.parametrize("group", GROUPS)
def test_as_many_constants_as_crystallography_says_and_no_strain_too_many(group):
    _, constants, strains = GROUPS[group]
    basis = invariant_tensors(point_group(general(group)))
    assert len(basis) == constants
    assert np.allclose(np.einsum("pab,qab->pq", basis, basis), np.eye(constants))
    assert len(needed_strains(basis)) == strains


@pytest.mark.parametrize("group", GROUPS)
def test_projects_as_pymatgen(group):
    """A tensor without symmetry, averaged over the group of a crystal that stands askew."""
    atoms = turned(general(group))
    random = np.random.default_rng(group).normal(size=(6, 6))
    tensor = ElasticTensor(random + random.T)
    basis = invariant_tensors(point_group(atoms))
    ours = np.einsum("p,pab->ab", np.einsum("pab,ab->p", basis, tensor.mandel), basis)
    other = ElasticTensorOfPymatgen.from_voigt(tensor.voigt).fit_to_structure(AseAtomsAdaptor.get_structure(atoms))
    assert np.allclose(ElasticTensor.of_mandel(ours).voigt, other.voigt, atol=1e-6)


@pytest.mark.parametrize("group", GROUPS)
def test_the_needed_strains_give_the_whole_tensor(group):
    """Of any orientation: stresses of a known tensor, and noise that grows no more than is said."""
    basis = invariant_tensors(point_group(turned(general(group))))
    random = np.random.default_rng(group)
    known = np.einsum("p,pab->ab", random.normal(size=len(basis)), basis)
    strains = 0.01 * to_mandel(BASIS[needed_strains(basis)])
    found, residual = fit(basis, strains, strains @ known)
    assert np.allclose(found, known, atol=1e-10)
    assert residual < 1e-10
    noise = 1e-4 * random.normal(size=strains.shape)
    found, residual = fit(basis, strains, strains @ known + noise)
    assert np.linalg.norm(found - known) <= np.linalg.norm(noise) / 0.01 / LEAST
    assert residual <= np.linalg.norm(noise) / np.linalg.norm(strains @ known + noise)


def test_strains_deform_lengths_as_their_components_say():
    atoms = general(1)
    strain = np.array([[0.01, 0.002, 0], [0.002, -0.005, 0.003], [0, 0.003, 0.02]])
    image = strained(atoms, strain)
    assert np.allclose(image.positions, atoms.positions + atoms.positions @ strain)
    assert np.allclose(image.cell.array, atoms.cell.array + atoms.cell.array @ strain)
