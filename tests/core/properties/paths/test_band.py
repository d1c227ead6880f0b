"""Forces on elastic bands are those of ASE's with the same calculator."""

import numpy as np
import pytest
import torch
from ase.build import add_adsorbate, fcc100
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.mep import NEB

from atomsml.properties.engine import Engine
from atomsml.properties.paths.band import Course, _start, band_forces


def slab():
    atoms = fcc100("Al", size=(2, 2, 2))
    add_adsorbate(atoms, "Au", 1.7, "hollow")
    atoms.center(axis=2, vacuum=4.0)
    atoms.set_constraint(FixAtoms(mask=[atom.tag > 1 for atom in atoms]))
    return atoms


def shaken_band(seed, images=4):
    first = slab()
    rng, found = np.random.default_rng(seed), []
    for i in range(images):
        image = first.copy()
        image.positions[-1, 0] += i * first.cell[0, 0] / (2 * (images - 1))
        if i > 0:
            image.positions[4:] += 0.05 * rng.normal(size=(5, 3))
        found.append(image)
    return found


def of_ase(images, climb):
    for image in images:
        image.calc = EMT()
    return NEB(images, climb=climb, method="improvedtangent", k=0.1).get_forces().reshape(len(images) - 2, -1, 3)


@pytest.mark.parametrize("climb", [True, False])
def test_forces_are_those_of_ase(climb):
    """Of three bands with different numbers of images in one state, in random places."""
    bands = [shaken_band(1), shaken_band(2, 5), shaken_band(3, 6)]
    courses = []
    for band in bands:
        for image in (band[0], band[-1]):
            image.calc = EMT()
        courses.append(Course(band, (band[0].get_potential_energy(), band[-1].get_potential_energy())))
    state, memory = _start(courses)
    memory.climbs = torch.full_like(memory.climbs, climb)
    Engine.of_ase(EMT()).model(state)
    forces, residual, above = band_forces(state, memory, 0.1)
    assert above.all()  # ASE lets the highest image climb whether it is above the end points or not
    theirs = [of_ase(band, climb) for band in bands]
    assert forces.numpy() == pytest.approx(np.concatenate([x.reshape(-1, 3) for x in theirs]), abs=1e-9)
    assert residual[0] == residual[1]
    assert residual[1] != residual[2]
