"""First paths beside ASE's image dependent pair potential."""

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.mep import NEB
from ase.mep.neb import IDPP, idpp_interpolate
from ase.optimize import FIRE

from atomsml.properties.paths.idpp import between, distances, pair_potential, straight


def ends(name):
    if name == "inversion":
        first = molecule("NH3")
        last = first.copy()
        last.positions[:, 2] *= -1
        return first, last
    if name == "torsion":
        first = molecule("C2H6")
        last = first.copy()
        last.set_dihedral(*next(iter(torsions(first))), 180, indices=[i for i in range(8) if first[i].z < 0])
        return first, last
    first = bulk("W", cubic=True) * 2
    del first[0]
    last = first.copy()
    last.positions[0] = [0, 0, 0]  # the atom in the centre moves into the gap
    return first, last


def torsions(atoms):
    near = [i for i in range(2, 8) if atoms.get_distance(0, i) < 1.3]
    far = [i for i in range(2, 8) if i not in near]
    yield near[0], 0, 1, far[0]


@pytest.mark.parametrize("name", ["inversion", "torsion", "vacancy"])
def test_energy_and_forces_are_those_of_ase(name):
    first, last = ends(name)
    wanted = 0.7 * distances(first.positions, first)[0] + 0.3 * distances(last.positions, last)[0]
    image = first.copy()
    image.rattle(0.1, seed=0)
    image.calc = IDPP(wanted, mic=first.pbc.any())
    energy, forces = pair_potential(image.positions, first, wanted)
    assert energy == pytest.approx(image.get_potential_energy(), rel=1e-12)
    assert forces == pytest.approx(image.get_forces(), abs=1e-12)


@pytest.mark.parametrize("name", ["torsion", "vacancy"])
def test_path_is_that_of_ase(name):
    """By the same optimizer with the same parameters the images are the same."""
    first, last = ends(name)
    mine = between(first, last, 5)
    band = NEB([first.copy() for _ in range(6)] + [last.copy()], method="improvedtangent")
    band.interpolate(mic=bool(first.pbc.any()))
    idpp_interpolate(band, traj=None, log=None, fmax=0.1, optimizer=FIRE, mic=bool(first.pbc.any()), steps=100)
    for image, other in zip(mine, band.images, strict=True):
        assert image.positions == pytest.approx(other.positions, abs=0.01)


def test_atoms_do_not_meet():
    """A hydrogen that passes through the other on a straight path."""
    first, last = molecule("H2O"), molecule("H2O")
    last.positions[[1, 2]] = last.positions[[2, 1]]
    first.positions[1, 0] += 0.05
    closest = [min(atoms.get_distance(1, 2) for atoms in path(first, last, 5)) for path in (straight, between)]
    assert closest[0] < 0.1 < 0.4 < closest[1]
    assert np.isfinite(closest).all()
