"""Surface energies beside ASE's slabs, relaxed by ASE, of the same calculator."""

import numpy as np
import pytest
from ase.build import bulk, fcc100, fcc110, fcc111, molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS

from atomsml.properties.engine import Engine
from atomsml.properties.surfaces.slabs import SlabSettings
from atomsml.properties.surfaces.surface import surface_energies
from atomsml.properties.task import Failure, Start

BUILD = {"111": fcc111, "100": fcc100, "110": fcc110}
ENGINE = Engine.of_ase(EMT())


def relaxed(atoms):
    atoms.calc = EMT()
    BFGS(atoms, logfile=None).run(fmax=1e-3)
    return atoms.get_potential_energy()


def bulk_of(metal):
    """Lattice constant and energy of an atom."""
    atoms = bulk(metal, cubic=True)
    atoms.calc = EMT()
    BFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=1e-3)
    return atoms.cell[0, 0], atoms.get_potential_energy() / 4


def test_of_metals_as_by_hand_with_ase():
    """Both are within 5e-4 of the lattice constant, and so within 1e-3 of areas, of the same minimum."""
    metals = ["Cu", "Al", "Ni"]
    found = dict(surface_energies([bulk(metal) for metal in metals], ENGINE, SlabSettings(thickness=8)))
    for i, metal in enumerate(metals):
        a, per_atom = bulk_of(metal)
        assert sorted(each.slab.name for each in found[i].surfaces) == ["100", "110", "111"]
        for each in found[i].surfaces:
            slab = BUILD[each.slab.name](metal, (1, 1, len(each.slab.atoms)), a=a, vacuum=8)
            slab.calc = EMT()
            area = np.linalg.norm(np.cross(*slab.cell[:2]))
            cut = (slab.get_potential_energy() - per_atom * len(slab)) / (2 * area)
            whole = (relaxed(slab) - per_atom * len(slab)) / (2 * area)
            assert each.cut_energy == pytest.approx(cut, rel=2e-3)
            assert each.energy == pytest.approx(whole, rel=2e-3)
            assert each.energy <= each.cut_energy
            assert each.moved > 1e-4
        energies = [each.energy for each in found[i].surfaces]
        assert energies == sorted(energies)
        assert len(found[i].shape) >= 14  # 8 and 6 faces of 111 and 100


def test_with_the_bottom_held_the_energy_is_that_of_the_free_face():
    """Of a slab so thick that its faces do not know each other: what both free faces have."""
    settings = {"miller": ((1, 0, 0),), "thickness": 14.0}
    energies = {}
    for hold in ("none", "bottom", "middle"):
        [(_, found)] = surface_energies([bulk("Al")], ENGINE, SlabSettings(hold=hold, **settings))
        [each] = found.surfaces
        energies[hold] = each.energy
        held = [i for constraint in each.slab.atoms.constraints for i in constraint.index]
        assert (hold == "none") == (held == [])
    assert energies["bottom"] < each.cut_energy - 1e-4
    assert energies["bottom"] == pytest.approx(energies["none"], abs=1e-4)
    assert energies["middle"] == pytest.approx(energies["none"], abs=1e-4)


def test_held_layers_stay_to_the_last_bit():
    [(_, found)] = surface_energies([bulk("Cu")], ENGINE, SlabSettings(miller=((1, 1, 0),), hold="bottom"))
    before, after = found.surfaces[0].cut.atoms, found.surfaces[0].slab.atoms
    [constraint] = after.constraints
    assert isinstance(constraint, FixAtoms)
    assert 0 < len(constraint.index) < len(after)
    moved = np.linalg.norm(after.positions - before.positions, axis=1)
    assert (moved[constraint.index] == 0).all()
    assert np.delete(moved, constraint.index).max() > 1e-3


def test_with_the_bottom_held_differing_faces_are_refused():
    """An ordered alloy along 100 ends in copper on one side, in gold on the other."""
    alloy = bulk("Cu", cubic=True)
    alloy.symbols[[0, 1]] = "Au"
    settings = SlabSettings(miller=((0, 0, 1), (1, 0, 0)), hold="bottom")
    [(_, found)] = surface_energies([alloy], ENGINE, settings, Start(cell=True))
    assert isinstance(found, Failure)
    assert "faces of the slab 001 differ" in found.reason


def test_what_finds_no_minimum_is_named():
    [(_, found)] = surface_energies(
        [bulk("Al", a=3.9935)], ENGINE, SlabSettings(miller=((1, 1, 0),)), Start(fmax=1e-3, steps=1, relax=True)
    )
    assert isinstance(found, Failure)
    assert "the slab 110 of it found no minimum: out of steps" in found.reason


def test_a_molecule_is_refused():
    with pytest.raises(ValueError, match="surfaces are cut from a crystal"):
        list(surface_energies([molecule("H2O")], ENGINE))
