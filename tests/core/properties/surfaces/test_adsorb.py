"""Adsorption energies beside a loop of ASE with its add_adsorbate, of the same calculator."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import add_adsorbate, bulk, fcc100, fcc111, molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.optimize import BFGS

from atomsml.properties.engine import Engine
from atomsml.properties.surfaces.adsorb import AdsorbSettings, adsorption_energies
from atomsml.properties.surfaces.slabs import SlabSettings
from atomsml.properties.task import Failure, Start

ENGINE, LATTICE = Engine.of_ase(EMT()), 3.5898  # A, of copper in EMT


def copper():
    slab = fcc111("Cu", (1, 1, 3), a=LATTICE, vacuum=8)
    slab.set_constraint(FixAtoms([0]))
    return slab


def relaxed(atoms):
    atoms.calc = EMT()
    BFGS(atoms, logfile=None).run(fmax=1e-3)
    return atoms.get_potential_energy()


def test_of_oxygen_on_copper_as_by_hand_with_ase():
    """The same sites: forces of 0.005 eV/A that are left are some 1e-5 eV of bonds of 10 eV/A^2."""
    [(_, found)] = adsorption_energies([copper()], Atoms("O"), ENGINE, AdsorbSettings(length=0))
    clean = relaxed(copper())
    gas = Atoms("O", calculator=EMT()).get_potential_energy()
    theirs = {}
    for name in ("ontop", "bridge", "fcc", "hcp"):
        slab = copper()
        add_adsorbate(slab, "O", 2.0, name)
        theirs[name] = relaxed(slab) - clean - gas
    mine = sorted(each.energy for each in found.found)
    assert mine == pytest.approx(sorted(theirs.values()), abs=1e-3)
    assert [each.energy for each in found.found] == mine
    assert {each.site.name for each in found.found} == {"ontop 1", "bridge 1", "hollow 1", "hollow 2"}
    assert found.gas.get_potential_energy() == pytest.approx(gas)
    assert all(each.outcome.bonded and each.outcome.notes == [] for each in found.found)


def test_of_carbon_monoxide_in_three_orientations_as_by_hand_with_ase():
    """Upright on an atom, either end down: the ends are those of ASE's mol_index."""
    [(_, found)] = adsorption_energies([copper()], molecule("CO"), ENGINE, AdsorbSettings(length=0))
    assert len(found.found) == 4 * 3
    clean, gas = relaxed(copper()), relaxed(molecule("CO"))
    upright = molecule("CO")  # oxygen first, and above
    slab = copper()
    add_adsorbate(slab, upright, 2.0, "ontop", mol_index=1)
    expected = relaxed(slab) - clean - gas
    ontop = [each for each in found.found if each.site.kind == "ontop"]
    best = min(ontop, key=lambda each: abs(each.energy - expected))
    assert best.energy == pytest.approx(expected, abs=2e-3)
    carbon, oxygen = best.atoms.positions[-1], best.atoms.positions[-2]
    assert carbon[2] < oxygen[2] - 1.0


def test_slabs_are_cut_repeated_and_their_bottom_stays_to_the_last_bit():
    slabs = SlabSettings(miller=((1, 0, 0), (1, 1, 1)), thickness=5, hold="bottom")
    settings = AdsorbSettings(cut=True, slabs=slabs, length=5)
    [(_, found)] = adsorption_energies([bulk("Cu")], Atoms("O"), ENGINE, settings)
    assert {each.surface for each in found.found} == {"100", "111"}
    clean = {base.slab.name: base for base in found.bases}
    for each in found.found:
        base = clean[each.surface]
        assert len(each.atoms) == len(base.atoms) + 1
        assert len(base.atoms) % len(base.slab.atoms) == 0
        assert 1 / np.linalg.norm(base.atoms.cell.reciprocal().array[:2], axis=1).max() >= 5
        [constraint] = each.atoms.constraints
        held = constraint.index
        assert 0 < len(held) < len(base.atoms)
        assert (each.atoms.positions[held] == base.atoms.positions[held]).all()
        assert each.outcome.slab_moved > 1e-3
        whole = base.atoms.get_potential_energy() + found.gas.get_potential_energy()
        assert each.energy == pytest.approx(each.atoms.get_potential_energy() - whole)
        parts = len(base.atoms) // len(base.slab.atoms)
        assert base.atoms.get_potential_energy() == pytest.approx(parts * base.slab.atoms.get_potential_energy())


def test_many_slabs_are_as_each_alone():
    slabs = [copper(), fcc100("Cu", (1, 1, 3), a=LATTICE, vacuum=8)]
    settings = AdsorbSettings(length=0)
    together = dict(adsorption_energies(slabs, Atoms("O"), ENGINE, settings))
    for i, slab in enumerate(slabs):
        [(_, alone)] = adsorption_energies([slab], Atoms("O"), ENGINE, settings)
        assert [x.energy for x in together[i].found] == pytest.approx([x.energy for x in alone.found], abs=1e-6)


def test_what_finds_no_minimum_is_told():
    clean = copper()
    relaxed(clean)
    start = Start(fmax=2e-3, steps=2)
    [(_, found)] = adsorption_energies([clean], Atoms("O"), ENGINE, AdsorbSettings(length=0, height=1.5), start)
    assert isinstance(found, Failure)
    assert "on it O found no minimum: out of steps after 2" in found.reason


@pytest.mark.parametrize(
    ("atoms", "message"),
    [
        (bulk("Cu"), "a slab has a vacuum of 5 A"),
        (molecule("H2O"), "a slab is periodic along its first two axes"),
    ],
    ids=["crystal", "molecule"],
)
def test_what_is_no_slab_is_refused(atoms, message):
    with pytest.raises(ValueError, match=message):
        list(adsorption_energies([atoms], Atoms("O"), ENGINE))


def test_what_cannot_adsorb_is_refused():
    with pytest.raises(ValueError, match="not periodic"):
        list(adsorption_energies([copper()], bulk("Cu"), ENGINE))
    hydroxide = molecule("OH")
    hydroxide.info["charge"] = -1
    with pytest.raises(ValueError, match="OH has the charge -1"):
        list(adsorption_energies([copper()], hydroxide, ENGINE))


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"length": -1.0}, "between 0 and 100 A"), ({"height": 0.0}, "between 0 and 10 A, got 0")],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        AdsorbSettings(**settings)
