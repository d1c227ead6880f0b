"""Vacancies beside a loop of ASE, of the same calculator."""

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS

from atomsml.properties.engine import Engine
from atomsml.properties.task import Failure, Start
from atomsml.properties.vacancy import VacancySettings, supercell, vacancies

ENGINE = Engine.of_ase(EMT())


def by_ase(metal, size):
    """Energy with rigid neighbours, and relaxed, eV."""
    atoms = bulk(metal, cubic=True)
    atoms.calc = EMT()
    BFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=1e-3)
    perfect = atoms.get_potential_energy() / 4
    without = atoms.repeat(size)
    del without[0]
    without.calc = EMT()
    rigid = without.get_potential_energy() - len(without) * perfect
    BFGS(without, logfile=None).run(fmax=1e-3)
    return rigid, without.get_potential_energy() - len(without) * perfect


def test_of_metals_as_by_hand_with_ase():
    """Forces of 0.005 eV/A that are left on the softest atoms, of some eV/A^2, are 1e-4 eV together."""
    metals = ["Cu", "Al"]
    found = dict(vacancies([bulk(metal) for metal in metals], ENGINE, VacancySettings(length=7)))
    for i, metal in enumerate(metals):
        [vacancy] = found[i].vacancies
        rigid, relaxed = by_ase(metal, 2)
        assert len(found[i].supercell) == 32
        assert len(vacancy.atoms) == 31
        assert vacancy.rigid_energy == pytest.approx(rigid, abs=1e-3)
        assert vacancy.energy == pytest.approx(relaxed, abs=1e-3)
        assert vacancy.energy < vacancy.rigid_energy - 0.01
        assert 0.01 < vacancy.moved < 0.5
        assert vacancy.atoms.cell.array == pytest.approx(found[i].supercell.cell.array, abs=0)
        assert found[i].potentials[metal] == pytest.approx(found[i].supercell.get_potential_energy() / 32)


def alloy():
    """Cu3Au, with two kinds of atoms."""
    atoms = bulk("Cu", cubic=True, a=3.75)
    atoms.symbols[0] = "Au"
    return atoms


def test_of_a_compound_each_site_once_and_by_the_references():
    potentials = {"Cu": -0.01, "Au": -0.2}
    [(_, found)] = vacancies([alloy()], ENGINE, VacancySettings(length=7), potentials=potentials)
    assert {(each.site.element, each.site.multiplicity) for each in found.vacancies} == {("Cu", 3), ("Au", 1)}
    shifted = {"Cu": 0.99, "Au": -0.2}
    [(_, other)] = vacancies([alloy()], ENGINE, VacancySettings(length=7), potentials=shifted)
    mine = {each.site.element: each for each in found.vacancies}
    theirs = {each.site.element: each.energy for each in other.vacancies}
    assert theirs["Cu"] - mine["Cu"].energy == pytest.approx(1.0, abs=1e-6)
    assert theirs["Au"] == pytest.approx(mine["Au"].energy, abs=1e-6)
    for element, each in mine.items():
        assert each.atoms.symbols.count(element) == found.supercell.symbols.count(element) - 1
        whole = found.supercell.get_potential_energy()
        assert each.energy == pytest.approx(each.atoms.get_potential_energy() + potentials[element] - whole)
    energies = [each.energy for each in found.vacancies]
    assert energies == sorted(energies)


def test_without_references_a_compound_fails_and_the_others_do_not():
    found = dict(vacancies([alloy(), bulk("Cu")], ENGINE, VacancySettings(length=5), potentials={"Cu": 0.0}))
    assert isinstance(found[0], Failure)
    assert found[0].reason.startswith("has several elements, and there is no reference of the element Au")
    assert len(found[1].vacancies) == 1


@pytest.mark.parametrize("lengths", [(5.0, 5.0, 5.0), (3.0, 4.0, 9.0)])
def test_faces_of_the_supercell_are_as_far_apart_as_asked(lengths):
    atoms = bulk("Cu")
    atoms.set_cell([*lengths, 90, 70, 60])
    heights = 1 / np.linalg.norm(supercell(atoms, 10.0).cell.reciprocal().array, axis=1)
    assert (heights >= 10 - 1e-6).all()
    assert (heights < 20).all()


def test_what_has_no_vacancy_is_refused():
    with pytest.raises(ValueError, match="periodic along all three axes"):
        list(vacancies([molecule("H2O")], ENGINE))
    with pytest.raises(ValueError, match="between 0 and 200 A, got 0"):
        VacancySettings(length=0)
    settings = VacancySettings(length=1)
    [(_, found)] = vacancies([bulk("Cu", "sc", a=2.4)], ENGINE, settings, Start(fmax=1e3, cell=True, relax=False))
    assert "is one atom in its supercell" in found.reason


def test_what_finds_no_minimum_is_named():
    [(_, found)] = vacancies([bulk("Al", a=3.9935)], ENGINE, VacancySettings(length=7), Start(fmax=1e-3, steps=1))
    assert isinstance(found, Failure)
    assert "without Al at 4a it found no minimum: out of steps" in found.reason
