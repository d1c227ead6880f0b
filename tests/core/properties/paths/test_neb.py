"""Barriers beside ASE's elastic bands, with the same calculator."""

from typing import ClassVar

import numpy as np
import pytest
from ase import Atoms
from ase.build import add_adsorbate, fcc100, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.mep import NEB
from ase.optimize import FIRE

from atomsml.properties.engine import Engine
from atomsml.properties.paths.neb import NebSettings, Path, elastic_bands
from atomsml.properties.task import Failure, Start

ENGINE = Engine.of_ase(EMT())


def hop(metal="Al", adatom="Au", cells=1, size=(2, 2, 2)):
    """An adatom from one hollow site to another."""
    first = fcc100(metal, size=size)
    add_adsorbate(first, adatom, 1.7, "hollow")
    first.center(axis=2, vacuum=4.0)
    first.set_constraint(FixAtoms(mask=[atom.tag > 1 for atom in first]))
    last = first.copy()
    last.positions[-1, 0] += cells * first.cell[0, 0] / size[0]
    return first, last


def barrier_of_ase(path, images, fmax):
    band = [path.images[0].copy() for _ in range(images + 1)] + [path.images[-1].copy()]
    neb = NEB(band, climb=True, method="improvedtangent")
    neb.interpolate("idpp")
    for image in band:
        image.calc = EMT()
    assert FIRE(neb, logfile=None).run(fmax=fmax, steps=300)
    energies = [image.get_potential_energy() for image in band]
    return max(energies) - energies[0], max(energies) - energies[-1]


PAIRS = [hop(), hop("Cu", "Cu")]


@pytest.fixture(scope="module")
def paths():
    """Of several bands at once."""
    return dict(elastic_bands(PAIRS, ENGINE, NebSettings(images=5)))


def test_barriers_are_those_of_ase(paths):
    """The highest image is within fmax^2 / 2k, k > 0.5 eV/A^2, of its saddle point, of however many images."""
    for path in paths.values():
        forward, reverse = barrier_of_ase(path, 3, 0.03)
        assert path.barrier == pytest.approx(forward, abs=1e-3)
        assert path.reverse_barrier == pytest.approx(reverse, abs=1e-3)
        assert path.reaction_energy == pytest.approx(0, abs=1e-4)
        assert path.top == 3
        assert path.climbed
        assert path.residual <= 0.03
        assert np.linalg.norm(path.images[3].get_forces(), axis=1).max() <= 0.03


def test_a_band_does_not_depend_on_those_beside_it(paths):
    [(_, alone)] = elastic_bands(PAIRS[1:], ENGINE, NebSettings(images=5))
    assert paths[1].steps == alone.steps
    assert paths[1].energies == pytest.approx(alone.energies, abs=1e-9)


def test_slopes_are_those_of_the_energies_along_the_path(paths):
    path = paths[0]
    middle = (path.lengths[1:] + path.lengths[:-1]) / 2
    mean = np.diff(path.energies) / np.diff(path.lengths)
    inside = (path.energy(middle + 1e-4) - path.energy(middle - 1e-4)) / 2e-4
    assert np.abs(path.slopes).max() > 0.2
    assert inside == pytest.approx(mean, abs=0.15)
    assert path.slopes[path.top] == pytest.approx(0, abs=0.03)


def test_minima_on_the_way_are_seen():
    [(_, path)] = elastic_bands([hop("Cu", "Cu", 2, (4, 2, 2))], ENGINE, NebSettings(images=7, fmax=0.1))
    assert path.dips == [4]


def test_a_whole_path_goes_on_where_it_was(paths):
    path = paths[0]
    [(_, again)] = elastic_bands([path.images], ENGINE, NebSettings(images=1))
    assert again.steps == 0 or again.steps < path.steps / 2
    assert len(again.images) == 7
    assert again.barrier == pytest.approx(path.barrier, abs=1e-3)


class TwoHumps(Calculator):
    """(1 - x^2)^2 (1 + 4 x^2) + y^2 of the second atom: 1 at x = 0, and 125 / 108 at x^2 = 1 / 6."""

    implemented_properties: ClassVar = ["energy", "forces"]

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        x, y, z = atoms.positions[1]
        slope = -4 * x * (1 - x**2) * (1 + 4 * x**2) + 8 * x * (1 - x**2) ** 2
        energy = (1 - x**2) ** 2 * (1 + 4 * x**2) + y**2 + z**2
        self.results = {"energy": energy, "forces": -np.array([[0, 0, 0], [slope, 2 * y, 2 * z]])}


@pytest.mark.parametrize("images", [5, 6])
def test_a_dip_in_which_symmetry_holds_the_highest_image_is_left(images):
    """At the hump the energy curves down by 20/3 eV/A^2 along the path, and up by 2 across it."""
    first = Atoms("Cu2", [(0, 0, 9), (-1, 0.1, 0)], constraint=FixAtoms([0]))
    last = Atoms("Cu2", [(0, 0, 9), (1, 0.1, 0)], constraint=FixAtoms([0]))
    [(_, path)] = elastic_bands([(first, last)], Engine.of_ase(TwoHumps()), NebSettings(images=images))
    assert path.barrier == pytest.approx(125 / 108, abs=2e-4)
    assert path.curvature == pytest.approx(-20 / 3, rel=0.05)
    assert path.steps > 0


def test_a_path_that_only_rises_has_its_top_at_an_end():
    first, last = (Atoms("Cu2", [(0, 0, 0), (0, 0, distance)]) for distance in (2.2, 3.5))
    [(_, path)] = elastic_bands([[first, last]], ENGINE, NebSettings(images=3), Start(fmax=9, relax=False))
    assert not path.is_interior
    assert path.barrier == pytest.approx(path.reaction_energy)
    assert path.reverse_barrier == 0


def test_a_band_that_does_not_converge_fails():
    [(_, found)] = elastic_bands([hop()], ENGINE, NebSettings(images=3, steps=2))
    assert isinstance(found, Failure)
    assert found.reason.startswith("the band is not converged: after 2 steps a force is")


def test_end_points_that_are_one_minimum_fail_and_the_others_do_not():
    first, last = hop()
    near = first.copy()
    near.positions[-1] += 0.1
    found = dict(elastic_bands([(first, near), (first, last)], ENGINE, NebSettings(images=3)))
    assert "both end points relax to the same minimum" in found[0].reason
    assert isinstance(found[1], Path)


def test_end_points_that_are_no_minima_fail_unless_they_are_relaxed():
    [(_, found)] = elastic_bands([hop()], ENGINE, start=Start(relax=False, fmax=0.01))
    assert found.reason.startswith("the first end point is no minimum of this model")


def test_atoms_that_meet_on_the_way_are_told():
    """Two hydrogens of a molecule in one line change places through each other."""
    first = Atoms("OHH", [(0, 0, 0), (0, 0, 1), (0, 0, -1)])
    last = first[[0, 2, 1]]
    settings = NebSettings(images=3, start="linear", order="keep")
    [(_, found)] = elastic_bands([[first, last]], ENGINE, settings, Start(fmax=99, relax=False))
    assert isinstance(found, Failure)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"images": 0}, "images must be at least 1"),
        ({"spring": 0}, "spring must be a positive number"),
        ({"fmax": float("nan")}, "fmax must be a positive number"),
        ({"climb_below": -1}, "climb_below is a force"),
        ({"climb_below": 0.01}, "climb_below must not be below fmax"),
        ({"start": "spline"}, "unknown start 'spline'"),
        ({"order": "any"}, "unknown order 'any'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        NebSettings(**settings)


def test_other_molecules_are_refused():
    with pytest.raises(ValueError, match="of the same atoms all along"):
        list(elastic_bands([[molecule("H2O"), molecule("CO2")]], ENGINE))
