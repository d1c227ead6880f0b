"""Committees: against numpy over their members, and as calculators."""

import json

import ase
import numpy as np
import pytest
import torch
from ase.build import bulk, molecule

from atomsml import AtomsMLCalculator, modelfile
from atomsml.graph import AtomicGraph
from atomsml.potential import evaluate
from atomsml.potentials import POTENTIALS
from atomsml.testing import assert_ase_contract
from atomsml.uncertainty import Committee, committee_files


@pytest.fixture
def members(pair_potential, monkeypatch):
    """Three pair potentials of other elements, cutoffs and weights; H and Ar are what they have in common."""
    pair = type(pair_potential)
    monkeypatch.setitem(POTENTIALS, "pair", pair)
    configs = [pair.Config(), pair.Config((1, 10, 18), 4.0, 0.12), pair.Config((1, 2, 18), 3.0, 0.08)]
    found = [pair(config).cast(torch.float64) for config in configs]
    for shift, member in zip((0.0, 0.05, -0.1), found, strict=True):
        member.sigma.data += shift
        member.references += shift
    return found


def argon(a: float = 3.6) -> ase.Atoms:
    atoms = bulk("Ar", "fcc", a=a) * (2, 1, 1)
    atoms.rattle(0.05, seed=1)
    return atoms


def batch() -> AtomicGraph:
    return AtomicGraph.from_list([AtomicGraph.from_ase(atoms) for atoms in (argon(), molecule("H2"), argon(3.1))])


def test_mean_and_spread_are_those_of_the_members_alone(members):
    graph = batch()
    found = Committee(members)(graph, forces=True, stress=True)
    alone = [evaluate(member, graph, stress=True) for member in members]
    for name in ("energy", "forces", "stress"):
        values = np.stack([getattr(prediction, name).numpy() for prediction in alone])
        np.testing.assert_allclose(getattr(found, name), values.mean(axis=0), rtol=0, atol=1e-12)
        np.testing.assert_allclose(found[f"{name}_std"], values.std(axis=0, ddof=1), rtol=0, atol=1e-12)
    assert found["energy_std"].min() > 1e-3  # or the comparison would say nothing
    totals = torch.zeros(3, dtype=torch.float64).index_add(0, graph.batch, found.atom_energies)
    np.testing.assert_allclose(totals, found.energy, rtol=0, atol=1e-12)


@pytest.mark.parametrize("given", [True, False])
def test_every_member_sees_the_neighbours_within_its_own_cutoff(members, given):
    seen = []
    for member in members:
        member.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    graph, committee = batch(), Committee(members)
    assert committee.cutoff == 5.0
    committee(graph.with_neighbors(5.0) if given else graph)
    for member, its_graph in zip(members, seen, strict=True):
        edges, wanted = (
            sorted(zip(*g.edge_index.tolist(), *g.cell_offsets.T.tolist(), strict=True))
            for g in (its_graph, graph.with_neighbors(member.cutoff))
        )
        assert edges == wanted
        assert (its_graph.edge_index[1].diff() >= 0).all()


def test_only_what_is_asked_for(members):
    found = Committee(members)(batch(), forces=False)
    assert (found.forces, found.stress, found.atom_data) == (None, None, {})
    assert "stress_std" not in Committee(members)(batch()).system_data


def test_elements_are_those_that_all_members_know(members):
    assert Committee(members).elements == (1, 18)
    assert Committee(members[1:]).elements == (1, 18)
    other = type(members[0])(members[0].Config(elements=(2, 10)))
    with pytest.raises(ValueError, match="no element in common"):
        Committee([*members, other])


@pytest.mark.parametrize("count", [0, 1])
def test_one_member_has_no_spread(members, count):
    with pytest.raises(ValueError, match=f"from two members on, got {count}"):
        Committee(members[:count])
    with pytest.raises(ValueError, match=f"from two members on, got {count}"):
        AtomsMLCalculator(members[:count])


def test_a_committee_is_no_member(members):
    with pytest.raises(ValueError, match="must be single potentials, got a Committee"):
        AtomsMLCalculator([members[0], Committee(members)])


def test_contract(members):
    assert_ase_contract(AtomsMLCalculator(members, device="cpu"), ("H", "Ar"))


def test_results_of_the_calculator(members):
    calc, atoms = AtomsMLCalculator(members, device="cpu", precision="float64"), argon()
    alone = [AtomsMLCalculator(member, device="cpu", precision="float64") for member in members]
    atoms.calc = calc
    atoms.get_potential_energy()
    assert set(calc.results) == {"energy", "free_energy", "energies", "energy_std"}
    atoms.get_forces()
    for name in ("energy", "forces", "stress"):
        values = np.stack([one.get_property(name, atoms) for one in alone])
        np.testing.assert_allclose(calc.results[name], values.mean(axis=0), rtol=0, atol=1e-12)
        np.testing.assert_allclose(calc.results[f"{name}_std"], values.std(axis=0, ddof=1), rtol=0, atol=1e-12)
    assert isinstance(calc.results["energy_std"], float)
    # what ASE has no name for does not disturb it
    assert set(calc.calculate_properties(atoms, ["energy", "forces"])) >= {"energy", "forces", "stress"}
    calc.get_property("forces", molecule("H2"))
    assert "stress_std" not in calc.results


def test_training_a_member_further_does_not_change_the_calculator(members):
    calc = AtomsMLCalculator(members, device="cpu", precision="float64")
    before = calc.get_property("energy", argon())
    members[0].sigma.data += 0.1
    calc.reset()
    assert calc.get_property("energy", argon()) == before


@pytest.fixture
def folder(members, tmp_path):
    """As training leaves one; the tenth member must not come before the second."""
    for number, member in zip((0, 2, 10), members, strict=True):
        (tmp_path / f"member-{number}").mkdir()
        modelfile.save(member, tmp_path / f"member-{number}" / "model.safetensors", {"head": "argon"})
    return tmp_path


def test_a_folder_or_its_files(folder, members):
    files = committee_files(folder)
    assert [file.parent.name for file in files] == ["member-0", "member-2", "member-10"]
    wanted = AtomsMLCalculator(members, device="cpu", precision="float64")
    wanted.get_property("forces", argon())
    for model in (folder, str(folder), files, tuple(map(str, files))):
        calc = AtomsMLCalculator(model, device="cpu", precision="float64", head="argon")
        again = AtomsMLCalculator(**json.loads(json.dumps(calc.todict())))
        for found in (calc, again):
            found.get_property("forces", argon())
            assert found.results["energy_std"] == wanted.results["energy_std"]
            assert np.array_equal(found.results["forces_std"], wanted.results["forces_std"])
    with pytest.raises(ValueError, match=r"unknown head 'neon'; .*model\.safetensors has one head: 'argon'"):
        AtomsMLCalculator(folder, head="neon")


def test_a_folder_without_members(tmp_path):
    with pytest.raises(ValueError, match=r"is a folder without member-\*/model.safetensors"):
        AtomsMLCalculator(tmp_path)
