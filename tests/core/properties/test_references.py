"""References of structures and of tables."""

import json

import pytest
from ase.build import bulk, fcc111, molecule
from ase.calculators.emt import EMT
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS

from atomsml.properties.engine import Engine
from atomsml.properties.references import Reference, elemental, is_table, read_table, relaxed_references
from atomsml.properties.task import Start

ENGINE, START = Engine.of_ase(EMT()), Start(fmax=1e-3, cell=True)


def test_are_relaxed_crystals_with_their_cells_and_molecules():
    found = relaxed_references({"metal": bulk("Cu", a=3.7), "gas": molecule("N2"), "alloy": bulk("Au")}, ENGINE, START)
    found = {each.name: each for each in found}
    metal, gas = bulk("Cu", a=3.6), molecule("N2")
    metal.calc, gas.calc = EMT(), EMT()
    BFGS(FrechetCellFilter(metal), logfile=None).run(fmax=1e-3)
    BFGS(gas, logfile=None).run(fmax=1e-3)
    assert found["metal"].energy == pytest.approx(metal.get_potential_energy(), abs=1e-5)
    assert found["gas"].energy == pytest.approx(gas.get_potential_energy(), abs=1e-5)
    assert found["gas"].per_atom == pytest.approx(gas.get_potential_energy() / 2, abs=1e-5)
    assert found["gas"].amounts == {"N": 2}


def test_the_lowest_of_an_element_counts_and_compounds_do_not():
    references = [
        Reference("fcc", {"Cu": 4.0}, -12.0),
        Reference("bcc", {"Cu": 2.0}, -5.9),
        Reference("Cu3Au", {"Cu": 3.0, "Au": 1.0}, -20.0),
    ]
    assert elemental(references) == {"Cu": -3.0}


def test_a_slab_is_no_reference():
    with pytest.raises(ValueError, match="the reference slab is neither a crystal nor a molecule"):
        relaxed_references({"slab": fcc111("Cu", (1, 1, 3), vacuum=5)}, ENGINE, START)


def test_one_without_a_minimum_is_named():
    with pytest.raises(ValueError, match="the reference far found no minimum: out of steps after 1"):
        relaxed_references({"far": bulk("Cu", a=3.4)}, ENGINE, Start(1e-4, 1, cell=True))


def test_tables(tmp_path):
    """Energies are those of the composition as it is written."""
    (tmp_path / "a.csv").write_text("composition,energy\nNa4Cl4,-27.2\nNa,-1.3\n")
    (tmp_path / "a.json").write_text(json.dumps({"Na4Cl4": -27.2, "Na": -1.3}))
    for name in ("a.csv", "a.json"):
        assert is_table(tmp_path / name)
        salt, sodium = read_table(tmp_path / name)
        assert salt.amounts == {"Na": 4, "Cl": 4}
        assert salt.per_atom == pytest.approx(-3.4)
        assert sodium.energy == -1.3
    (tmp_path / "structures.json").write_text('[{"structure": {}}]')
    assert not is_table(tmp_path / "structures.json")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "formula,energy\nNa,1\n", "a.csv is no table of references"),
        ("a.json", '["Na"]', "a.json is no table of references"),
        ("a.csv", "composition,energy\nQq,1\n", "'Qq', '1' is no composition"),
        ("a.csv", "composition,energy\nNa,nan\n", "'Na', 'nan' is no composition"),
        ("a.csv", "composition,energy\nNa,low\n", "'Na', 'low' is no composition"),
        ("a.csv", "composition,energy\n,1\n", "'', '1' is no composition"),
    ],
)
def test_tables_that_make_no_sense_are_refused(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_table(tmp_path / name)
