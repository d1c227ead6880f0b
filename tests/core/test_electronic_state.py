"""Total charge and spin: what structures state, what needs no statement, and what models make of it."""

from __future__ import annotations

import warnings

import ase
import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.collections import g2

from atomsml import AtomicGraph, AtomsMLCalculator, load, predict
from atomsml.electronic_state import ElectronicState, check_atoms, ground_state_spin, state_of_atoms
from atomsml.uncertainty import Committee

CLOSED_SHELL = ElectronicState(0, 1)
ANY = ElectronicState()


def refused(atoms: ase.Atoms, model: ElectronicState = CLOSED_SHELL) -> str:
    """Why, or nothing."""
    try:
        check_atoms(atoms, model, "the model")
    except ValueError as error:
        return str(error)
    return ""


@pytest.fixture(scope="module")
def organic() -> AtomsMLCalculator:
    return AtomsMLCalculator("organic-xtb")


@pytest.mark.parametrize("name", g2.names)
def test_the_open_shells_of_the_g2_set_are_refused_whether_they_state_their_moments_or_not(name: str) -> None:
    atoms = molecule(name)
    moment = atoms.get_initial_magnetic_moments().sum()  # unpaired electrons, as ASE has them
    assert bool(refused(atoms)) == (moment != 0 or name == "CH2_s1A1d")
    silent = ase.Atoms(atoms.numbers, atoms.positions)
    # triplet SiH2 is an excited state; of CH2 it is the ground state
    assert bool(refused(silent)) == (name.startswith("CH2_") or (moment != 0 and name != "SiH2_s3B1d"))
    if moment:
        assert refused(atoms, ElectronicState(0, int(moment) + 1)) == ""


@pytest.mark.parametrize(
    ("info", "state"),
    [
        ({"charge": 1}, (1, None)),
        ({"charge": np.float64(-1.0), "spin": 2}, (-1, 2)),
        ({"total_charge": 2, "multiplicity": 3}, (2, 3)),
        ({"net_charge": -2, "spin_multiplicity": 2}, (-2, 2)),
        ({"spin_multiplicity": 1}, (None, None)),  # which pymatgen puts everywhere
        ({"charge": "unknown", "spin": None}, (None, None)),
        ({"charge": float("nan")}, (None, None)),
        ({"charge": 0}, (0, None)),
    ],
)
def test_what_atoms_and_graphs_state(info: dict[str, object], state: tuple[int | None, int | None]) -> None:
    atoms = molecule("H2O")
    atoms.info.update(info)
    assert state_of_atoms(atoms) == ElectronicState(*state)
    atoms.set_initial_charges([-0.9, 0.4, -0.499])  # a stated charge counts first
    assert state_of_atoms(atoms).charge == (-1 if state[0] is None else state[0])


def test_charges_and_moments_of_atoms_count_where_nothing_else_is_stated() -> None:
    atoms = molecule("OH")
    assert state_of_atoms(atoms) == ElectronicState(None, 2)
    atoms.set_initial_charges([0, -1])
    assert state_of_atoms(atoms) == ElectronicState(-1, 2)
    atoms.set_initial_charges([0.5, -0.5])
    atoms.set_initial_magnetic_moments([1, -1])
    assert state_of_atoms(atoms) == ANY
    iron = bulk("Fe", cubic=True)
    iron.set_initial_magnetic_moments([2.3, 2.3])  # a guess of a calculation, no multiplicity
    assert state_of_atoms(iron) == ANY


def test_a_zwitterion_is_neutral_and_an_excited_state_may_be_meant(organic: AtomsMLCalculator) -> None:
    zwitterion = AtomicGraph.from_smiles("[NH3+]CC(=O)[O-]")
    assert np.isfinite(predict("organic-xtb", zwitterion).energy.item())
    oxygen = ase.Atoms("O2", [[0, 0, 0], [0, 0, 1.21]])
    assert "spin multiplicity 3" in refused(oxygen)
    oxygen.info["spin"] = 1
    assert refused(oxygen) == ""


def test_lone_atoms_have_the_ground_states_of_the_periodic_table() -> None:
    # H 2S, C 3P, N 4S, O 3P, F 2P, Ne 1S, S 3P, Cr 7S
    assert [ground_state_spin([z]) for z in (1, 6, 7, 8, 9, 10, 16, 24)] == [2, 3, 4, 3, 2, 1, 3, 7]
    assert refused(ase.Atoms("O"), ElectronicState(0, None)) == ""
    assert refused(ase.Atoms("Ne")) == ""


def test_a_metal_without_a_stated_spin_is_not_asked_for_its_electrons() -> None:
    niobium = bulk("Nb")  # 41 electrons
    niobium.calc = AtomsMLCalculator("refractory-pbe")
    assert np.isfinite(niobium.get_potential_energy())
    niobium.info["charge"] = 1
    with pytest.raises(ValueError, match=r"total charge is \+1, the model was made for 0"):
        niobium.get_potential_energy()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda atoms: atoms.info.update(charge=1),
            "its total charge is +1, the model was made for 0; take a model of",
        ),
        (lambda atoms: atoms.info.update(spin=3), "its spin multiplicity is 3, the model was made for 1; take a model"),
        (lambda atoms: atoms.set_initial_charges([0, 0, -1]), "its total charge is -1"),
        (lambda atoms: atoms.pop(2), "it has an odd number of electrons (9)"),
    ],
)
def test_the_calculator_refuses_and_forgets_what_it_had(organic: AtomsMLCalculator, change, message: str) -> None:
    atoms = molecule("H2O")
    atoms.calc = organic
    atoms.get_forces()
    change(atoms)
    with pytest.raises(ValueError, match=r".") as caught:
        atoms.get_potential_energy()
    assert str(caught.value).startswith(message)


def test_predict_refuses_and_says_which_system_of_a_batch() -> None:
    water, cation = AtomicGraph.from_smiles("O"), AtomicGraph.from_smiles("[OH3+]")
    with pytest.raises(ValueError, match=r"^its total charge is \+1, the model was made for 0"):
        predict("organic-xtb", [water, cation])
    with pytest.raises(ValueError, match=r"^system 1: its total charge is \+1"):
        predict("organic-xtb", AtomicGraph.from_list([water, cation]))
    with pytest.raises(ValueError, match=r"^its spin multiplicity is 2"):
        predict("organic-xtb", AtomicGraph.from_smiles("[CH3]"))


def test_a_model_that_states_nothing_warns_once(pair_potential) -> None:
    calc = AtomsMLCalculator(pair_potential)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for i, state in enumerate(2 * [{"charge": 0, "spin": 1}, {"charge": 1}, {"spin": 2}]):
            calc.get_property("energy", ase.Atoms("ArH", [[0, 0, 0], [0, 0, 1 + 0.01 * i]], info=state))
    assert [str(w.message) for w in caught] == [
        "the model SmoothLennardJones does not say for which total charge and spin it holds; those of the structures "
        "are ignored"
    ]


def test_a_committee_holds_for_what_its_members_state(pair_potential) -> None:
    first, second = load("organic-xtb"), load("organic-xtb")
    assert Committee([first, second]).electronic_state == CLOSED_SHELL
    second.electronic_state = ANY
    assert Committee([first, second]).electronic_state == CLOSED_SHELL
    second.electronic_state = ElectronicState(1, None)
    with pytest.raises(ValueError, match=r"^members of a committee were made for charge 0 and 1; leave one out$"):
        Committee([first, second])
