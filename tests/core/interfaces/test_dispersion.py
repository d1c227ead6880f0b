"""The calculator, the engine and committees with D3: sums of a model and dispersion, and warnings."""

import pickle
import warnings

import ase
import numpy as np
import pytest
from ase.build import bulk, molecule

from atomsml import AtomicGraph, AtomsMLCalculator, predict
from atomsml.dispersion import D3
from atomsml.dispersion.functionals import doubts_about
from atomsml.interfaces.models import open_model
from atomsml.properties.engine import Engine
from atomsml.testing import assert_ase_contract
from atomsml.uncertainty import Committee

SILICON = bulk("Si") * (2, 1, 1)
SILICON.rattle(0.1, seed=0)


def asked(atoms: ase.Atoms, calculator: AtomsMLCalculator) -> tuple[float, np.ndarray, np.ndarray]:
    atoms = atoms.copy()
    atoms.calc = calculator
    return atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress(voigt=False)


@pytest.mark.parametrize("words", ["pbe", "pbe+atm"])
def test_calculator_adds_dispersion_once(words):
    more = D3.of(words)(AtomicGraph.from_ase(SILICON), stress=True)
    bare = asked(SILICON, AtomsMLCalculator("universal-small", "cpu", "float64"))
    both = asked(SILICON, AtomsMLCalculator("universal-small", "cpu", "float64", d3=words))
    assert both[0] - bare[0] == pytest.approx(more.energy.item(), abs=1e-10)
    np.testing.assert_allclose(both[1] - bare[1], more.forces, atol=1e-10)
    np.testing.assert_allclose(both[2] - bare[2], more.stress[0], atol=1e-10)


def test_predict_adds_it_to_one_and_to_many():
    graphs = [AtomicGraph.from_ase(atoms) for atoms in (SILICON, bulk("NaCl", "rocksalt", a=5.6))]
    bare, both = (predict("universal-small", graphs, stress=True, d3=words) for words in (None, "pbe"))
    for graph, one, other in zip(graphs, bare, both, strict=True):
        more = D3.of("pbe")(graph, stress=True)
        for name in ("energy", "forces", "stress"):
            np.testing.assert_allclose(other[name] - one[name], more[name], atol=1e-10)
    alone = predict("universal-small", graphs[0], d3="pbe")
    np.testing.assert_allclose(alone.forces, both[0].forces, atol=1e-6)
    with pytest.warns(UserWarning, match="organic-xtb: its labels, GFN2-xTB, have dispersion"):
        predict("organic-xtb", AtomicGraph.from_smiles("O"), d3="pbe")


def test_calculator_keeps_the_contract_of_ase():
    assert_ase_contract(AtomsMLCalculator("universal-small", "cpu", d3="pbe"), ("Si", "O"))


def test_stress_of_the_sum_is_the_slope_of_its_energy():
    calculator, h = AtomsMLCalculator("universal-small", "cpu", "float64", exact=True, d3="pbe"), 1e-4
    stress, energies = asked(SILICON, calculator)[2], []
    for sign in (1, -1):
        strain = np.eye(3)
        strain[0, 1] = strain[1, 0] = sign * h / 2
        moved = SILICON.copy()
        moved.set_cell(SILICON.cell.array @ strain, scale_atoms=True)
        energies.append(asked(moved, calculator)[0])
    assert (energies[0] - energies[1]) / (2 * h) == pytest.approx(stress[0, 1] * SILICON.get_volume(), abs=1e-3)


def test_engine_and_pickled_calculators_have_it():
    calculator = pickle.loads(pickle.dumps(AtomsMLCalculator("universal-small", "cpu", d3="pbe")))
    assert calculator.parameters["d3"] == "pbe"
    (found,) = Engine.of(calculator).evaluate([SILICON], stress=True)
    energy, forces, stress = asked(SILICON, AtomsMLCalculator("universal-small", "cpu", d3="pbe"))
    assert found.get_potential_energy() == pytest.approx(energy, abs=1e-6)
    np.testing.assert_allclose(found.get_forces(), forces, atol=1e-5)
    np.testing.assert_allclose(found.get_stress(voigt=False), stress, atol=1e-6)


def test_deviations_of_committees_stay():
    committee = Committee([open_model("universal-small", None)[1]] * 2)
    bare, both = (AtomsMLCalculator(committee, "cpu", d3=d3) for d3 in (None, "pbe"))
    energies = [asked(SILICON, calculator)[0] for calculator in (bare, both)]
    assert energies[1] < energies[0]
    assert both.results["energy_std"] == pytest.approx(bare.results["energy_std"], abs=1e-9)


@pytest.mark.parametrize(
    ("words", "theory", "said"),
    [
        ("pbe", "PBE(+U)", ""),
        ("pbe+atm", "PBE", ""),
        ("bp86", "BP86", ""),
        ("r2scan", "r2SCAN", ""),
        ("pbe", "", ""),
        ("pbe", "GFN2-xTB", "have dispersion"),
        ("wb97m", "wB97M-D3(BJ)", "have dispersion"),
        ("pbe", "PBE-D3", "have dispersion"),
        ("wb97m", "wB97M-V/def2-TZVPD", "have dispersion"),
        ("b3lyp", "PBE(+U)", "belongs to b3lyp"),
    ],
)
def test_doubts_about_levels_of_theory(words, theory, said):
    assert said in doubts_about(words, theory)
    assert bool(said) == bool(doubts_about(words, theory))


def test_calculator_warns_of_dispersion_twice():
    with pytest.warns(UserWarning, match="organic-xtb: its labels, GFN2-xTB, have dispersion"):
        AtomsMLCalculator("organic-xtb", "cpu", d3="pbe")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        AtomsMLCalculator("universal-small", "cpu", d3="pbe")
        AtomsMLCalculator("organic-xtb", "cpu")


def test_refuses_unknown_functionals_and_elements():
    with pytest.raises(ValueError, match="unknown functional of D3 'pbx'"):
        AtomsMLCalculator("universal-small", "cpu", d3="pbx")
    with pytest.raises(ValueError, match="does not know Rf"):
        AtomsMLCalculator("universal-small", "cpu", d3="pbe").check(ase.Atoms("Rf"))


def test_molecules_have_no_stress():
    atoms = molecule("H2O")
    atoms.calc = AtomsMLCalculator("universal-small", "cpu", d3="pbe")
    atoms.get_forces()
    assert "stress" not in atoms.calc.results
