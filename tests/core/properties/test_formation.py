"""Formation energies and hulls beside pymatgen's of the same energies, and beside a hull that is drawn by hand."""

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram

from atomsml.properties.engine import Engine
from atomsml.properties.formation import formation_energies
from atomsml.properties.references import Reference, relaxed_references
from atomsml.properties.task import Failure, Start

ENGINE, START = Engine.of_ase(EMT()), Start(cell=True)


def alloy(*symbols):
    atoms = bulk("Cu", cubic=True, a=3.8)
    atoms.symbols[:] = list(symbols)
    return atoms


ALLOYS = [alloy("Au", "Cu", "Cu", "Cu"), alloy("Au", "Au", "Cu", "Cu"), alloy("Au", "Au", "Au", "Cu")]


@pytest.fixture(scope="module")
def metals():
    structures = {name: bulk(name) for name in ("Cu", "Au", "Pd")}
    return relaxed_references({**structures, "CuAu": ALLOYS[1]}, ENGINE, START)


def test_are_those_of_pymatgen(metals):
    found = dict(formation_energies([*ALLOYS, alloy("Au", "Pd", "Cu", "Cu")], metals, ENGINE, START))
    hull = PhaseDiagram([PDEntry(dict(each.amounts), each.energy) for each in metals])
    for each in found.values():
        energy, count = each.atoms.get_potential_energy(), each.atoms.symbols.formula.count()
        entry = PDEntry(count, energy)
        products, above = hull.get_decomp_and_e_above_hull(entry, allow_negative=True)
        assert each.above_hull == pytest.approx(above, abs=1e-9)
        assert {phase.formula: phase.share for phase in each.decomposition} == pytest.approx(
            {product.composition.reduced_formula: share for product, share in products.items()}
        )
        apart = {one.name: one.per_atom for one in metals if len(one.amounts) == 1}
        by_hand = (energy - sum(n * apart[element] for element, n in count.items())) / len(each.atoms)
        assert each.energy == pytest.approx(by_hand, abs=1e-9)
    assert {phase.formula for phase in found[3].hull} >= {"Cu", "Au", "Pd"}


def test_of_two_elements_beside_the_line_between_neighbours(metals):
    """CuAu lies on the hull, so this consists of two straight lines from it to the elements."""
    found = dict(formation_energies(ALLOYS, metals, ENGINE, START))
    copper, gold, ordered = (next(x.per_atom for x in metals if x.name == name) for name in ("Cu", "Au", "CuAu"))
    assert ordered < (copper + gold) / 2
    for i, share in enumerate((0.25, 0.5, 0.75)):
        on_hull = np.interp(share, [0, 0.5, 1], [copper, ordered, gold])
        mine = found[i].atoms.get_potential_energy() / 4 - on_hull
        assert found[i].above_hull == pytest.approx(mine, abs=1e-9)
    assert found[1].above_hull == pytest.approx(0, abs=1e-4)
    assert [phase.formula for phase in found[0].hull] == ["Au", "Cu", "CuAu"]


def test_what_is_more_stable_than_the_references_is_below_their_hull(metals):
    elements = [each for each in metals if len(each.amounts) == 1]
    [(_, found)] = formation_energies([ALLOYS[1]], elements, ENGINE, START)
    assert found.above_hull == pytest.approx(found.energy, abs=1e-9)
    assert found.above_hull < -0.005
    assert {phase.formula: phase.share for phase in found.decomposition} == pytest.approx({"Cu": 0.5, "Au": 0.5})


def test_an_element_without_reference_fails_and_the_others_do_not(metals):
    found = dict(formation_energies([bulk("Ni"), ALLOYS[0]], metals, ENGINE, START))
    assert isinstance(found[0], Failure)
    assert found[0].reason == "there is no reference of the element Ni; give a structure of it"
    assert found[1].energy < 0


def test_a_compound_is_no_reference_of_its_elements():
    [(_, found)] = formation_energies([ALLOYS[0]], [Reference("x", {"Cu": 1.0, "Au": 1.0}, 0.0)], ENGINE, START)
    assert found.reason == "there is no reference of the element Au or Cu; give a structure of it"


def test_a_molecule_is_refused(metals):
    with pytest.raises(ValueError, match="a convex hull is of crystals"):
        list(formation_energies([molecule("H2O")], metals, ENGINE))
