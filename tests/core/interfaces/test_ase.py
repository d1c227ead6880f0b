"""AtomsMLCalculator: the ASE contract, and what of it only this calculator can be asked."""

import copy
import json
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import ase
import ase.db
import ase.io
import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from ase.calculators.calculator import PropertyNotImplementedError, all_changes, compare_atoms
from ase.calculators.lj import LennardJones
from ase.constraints import FixAtoms
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS

from atomsml import AtomsMLCalculator, modelfile
from atomsml.device import PRECISIONS, select_device
from atomsml.potential import evaluate
from atomsml.testing import assert_ase_contract


@pytest.fixture
def calc(pair_potential):
    return AtomsMLCalculator(pair_potential, device="cpu", precision="float64")


def argon(a: float = 3.6) -> ase.Atoms:
    atoms = bulk("Ar", "fcc", a=a) * (2, 1, 1)
    atoms.rattle(0.05, seed=1)
    return atoms


@pytest.mark.parametrize("precision", PRECISIONS)
def test_contract(pair_potential, precision):
    assert_ase_contract(AtomsMLCalculator(pair_potential, device="cpu", precision=precision), ("H", "Ar"))


def test_agrees_with_ase_where_the_envelope_is_one(pair_potential):
    # the envelope of the pair potential starts at 3.75 A; this cluster is smaller
    atoms = ase.Atoms("Ar4", [(0, 0, 0), (2.2, 0, 0), (0, 2.3, 0), (0.2, 0.3, 2.4)])
    atoms.calc = AtomsMLCalculator(pair_potential, device="cpu", precision="float64")
    oracle = LennardJones(sigma=2.0, epsilon=0.1, rc=100.0)
    reference = float(pair_potential.references[1])
    shift = 4 * 0.1 * ((2.0 / 100) ** 12 - (2.0 / 100) ** 6)  # per pair, which ASE takes off
    energy = oracle.get_property("energy", atoms) + 6 * shift + 4 * reference
    assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-10)
    np.testing.assert_allclose(atoms.get_forces(), oracle.get_property("forces", atoms), rtol=0, atol=1e-10)


@pytest.mark.parametrize(("precision", "tolerance"), [("float64", 1e-12), ("mixed", 1e-5), ("float32", 1e-4)])
def test_precision(pair_potential, precision, tolerance):
    atoms = argon()
    exact = evaluate(pair_potential, _graph(atoms), stress=True)
    calc = AtomsMLCalculator(pair_potential, device="cpu", precision=precision)
    forces = calc.get_property("forces", atoms)
    assert np.abs(forces - exact.forces.numpy()).max() < tolerance * np.abs(forces).max()
    assert (np.abs(forces - exact.forces.numpy()).max() > 1e-12) == (precision != "float64")
    graph_dtype, network_dtype = PRECISIONS[precision]
    assert calc.potential.dtype == network_dtype
    assert calc._graph(atoms).dtype == graph_dtype
    assert pair_potential.dtype == torch.float64  # the caller's model is left as it was


def _graph(atoms):
    from atomsml.graph import AtomicGraph

    return AtomicGraph.from_ase(atoms)


def test_energy_only_calls_have_no_backward_pass_and_forces_bring_stress(calc):
    modes = []
    calc.potential.register_forward_hook(lambda *_: modes.append(torch.is_grad_enabled()))
    atoms = argon()
    atoms.calc = calc
    atoms.get_potential_energy()
    atoms.get_potential_energies()
    assert modes == [False]
    atoms.get_forces()
    atoms.get_stress()
    atoms.get_potential_energy(force_consistent=True)
    assert modes == [False, True]  # molecular dynamics with a barostat pays one evaluation per step


def test_energy_and_forces_of_few_atoms_are_computed_once_whatever_is_asked_first():
    calc = AtomsMLCalculator("refractory-pbe", device="cpu")
    few, many = bulk("W", cubic=True), bulk("W", cubic=True) * (4, 4, 4)
    few.rattle(0.1, seed=0)
    energy = calc.get_property("energy", few)
    forces, stress = calc.results["forces"], calc.results["stress"]
    assert calc.get_property("forces", few) is not forces  # a copy
    assert np.array_equal(calc.get_property("forces", few), forces)
    calc.get_property("energy", many)
    assert "forces" not in calc.results
    assert np.array_equal(calc.get_property("stress", few), stress)
    assert calc.get_property("energy", few) == energy


def test_charges_and_magnetic_moments_do_not_ask_for_a_new_calculation(calc):
    calls = []
    calc.potential.register_forward_hook(lambda *_: calls.append(1))
    atoms = argon()
    atoms.calc = calc
    first = atoms.get_forces()
    atoms.set_initial_charges([0.5, -0.5])
    atoms.set_initial_magnetic_moments([1, 1])
    assert np.array_equal(atoms.get_forces(), first)
    assert len(calls) == 1
    atoms.positions[0, 0] += 1e-12
    atoms.get_forces()
    assert len(calls) == 2


def test_stress_follows_the_volume(calc):
    boxed = molecule("H2", cell=[8, 8, 8], pbc=False)
    wire = ase.Atoms("Ar", cell=[2.4, 0, 0], pbc=[True, False, False])
    flat = ase.Atoms("Ar", cell=[[2.4, 0, 0], [0, 2.5, 0], [1.0, 0.3, 0]], pbc=[True, True, False])
    for atoms in (boxed, wire, flat):
        atoms.calc = calc
        atoms.get_forces()
        assert "stress" not in calc.results
        with pytest.raises(PropertyNotImplementedError):
            atoms.get_stress()
    slab = ase.Atoms("Ar", cell=[2.4, 2.5, 20], pbc=[True, True, False])
    stress = calc.get_property("stress", slab)
    assert np.abs(stress[:2]).min() > 1e-4
    assert stress[2] == 0


def test_a_run_with_one_list_for_several_steps_gives_what_single_calculations_give(calc, pair_potential):
    rng = np.random.default_rng(0)
    atoms = argon()
    steps = 40
    for _ in range(steps):
        atoms.set_cell(atoms.cell * (1 + rng.normal(scale=0.003)), scale_atoms=True)
        atoms.positions += rng.normal(scale=0.04, size=(2, 3))
        alone = evaluate(pair_potential, _graph(atoms), stress=True)
        assert calc.get_property("energy", atoms) == pytest.approx(alone.energy.item(), abs=1e-10)
        np.testing.assert_allclose(calc.get_property("forces", atoms), alone.forces.numpy(), rtol=0, atol=1e-10)
        stress = alone.stress.numpy()[0][[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
        np.testing.assert_allclose(calc.get_property("stress", atoms), stress, rtol=0, atol=1e-12)
    assert 1 < calc._neighbors.rebuilds < steps / 2


@pytest.mark.parametrize("change", ["positions", "numbers", "cell", "pbc"])
def test_state_is_compared_as_ase_does_it(calc, change):
    atoms = argon()
    assert set(calc.check_state(atoms)) == set(all_changes)  # nothing is known yet
    calc.calculate(atoms)
    assert calc.check_state(atoms) == []
    atoms.set_velocities(np.ones((2, 3)))
    atoms.set_tags([1, 2])
    assert calc.check_state(atoms) == compare_atoms(calc.atoms, atoms, excluded_properties=calc.ignored_changes) == []
    if change == "pbc":
        atoms.pbc = [True, True, False]
    else:
        array = atoms.cell.array if change == "cell" else atoms.arrays[change]
        array.flat[0] += 1
    assert calc.check_state(atoms) == compare_atoms(calc.atoms, atoms) == [change]
    assert calc.check_state(atoms, tol=2) == []  # ASE counts True and False as numbers
    assert set(calc.check_state(atoms[:1])) >= {"positions", "numbers"}


def test_asking_for_something_else(calc):
    atoms = argon()
    atoms.calc = calc
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_dipole_moment()
    with pytest.raises(PropertyNotImplementedError, match="magmom"):
        calc.calculate(atoms, ["energy", "magmom"])


def test_forces_are_raw_and_results_belong_to_the_caller(calc):
    atoms = argon()
    atoms.calc = calc
    free = atoms.get_forces()
    atoms.set_constraint(FixAtoms([0]))
    assert np.array_equal(calc.get_property("forces", atoms), free)
    atoms.get_stress()[:] = 0
    assert np.abs(calc.results["stress"]).max() > 0


def test_only_positions_are_converted_in_a_run(calc):
    atoms = argon()

    first, again = calc._graph(atoms), calc._graph(atoms)
    assert again is first
    assert first.num_edges == first.with_neighbors(calc.potential.cutoff).num_edges  # a single point has no skin
    atoms.positions += 0.01
    second = calc._graph(atoms)
    atoms.positions += 0.01
    third = calc._graph(atoms)
    for graph in (second, third):
        assert graph.numbers is first.numbers
        assert graph.cell is first.cell
    assert third.edge_index is second.edge_index  # it has a skin
    assert not torch.equal(third.positions, second.positions)
    atoms.set_cell(atoms.cell * 1.01)
    assert not torch.equal(calc._graph(atoms).cell, first.cell)
    atoms.numbers[0] = 1
    assert calc._graph(atoms).numbers.tolist() == [1, 18]
    atoms.pbc[2] = False
    assert calc._graph(atoms).pbc.tolist() == [[True, True, False]]


@pytest.mark.parametrize(
    ("atoms", "message"),
    [
        (ase.Atoms(), "there are no atoms to compute"),
        (ase.Atoms("HOAu"), "does not know O, Au; it was made for H Ar"),
        (ase.Atoms("H2", [(0, 0, 0), (0, np.nan, 1)]), r"atom 1 .* not finite"),
        (ase.Atoms("H", [(np.inf, 0, 0)]), r"atom 0 .* not finite"),
        (ase.Atoms("H", cell=[3, 3, 0], pbc=True), "singular"),
        (ase.Atoms("H", cell=[[3, 0, 0], [0, 3, 0], [3, 3, 0]], pbc=True), "singular"),
        (ase.Atoms("H", cell=[3, 3, np.nan], pbc=True), "cell of system 0 is not finite"),
    ],
)
def test_impossible_atoms_get_one_line_and_leave_no_results(calc, atoms, message):
    calc.calculate(argon())
    for _ in range(2):
        with pytest.raises(ValueError, match=message) as caught:
            calc.get_property("forces", atoms)
        assert "\n" not in str(caught.value)
        assert calc.results == {}
    with pytest.raises(ValueError, match=message):
        calc.calculate(atoms)
    assert np.isfinite(calc.get_property("energy", argon()))


def test_calculate_without_atoms(calc):
    with pytest.raises(ValueError, match="needs atoms"):
        calc.calculate()
    calc.calculate(argon())
    energy = calc.results["energy"]
    calc.calculate()
    assert calc.results["energy"] == energy


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "double"}, "unknown precision 'double'; choose one of float32, mixed, float64"),
        ({"precision": torch.float64}, "unknown precision torch.float64"),
        ({"device": "gpu"}, "unknown device 'gpu'; choose auto, cpu, cuda, cuda:N or mps"),
        ({"device": "cuda:1000"}, "device 'cuda:1000' is not available here; available: .*cpu"),
        ({"head": "omat"}, "unknown head 'omat'; SmoothLennardJones has one head: 'default'"),
        ({"model": "no-such-model"}, "unknown model 'no-such-model'"),
    ],
)
def test_unknown_options_are_refused(pair_potential, options, message):
    with pytest.raises(ValueError, match=message):
        AtomsMLCalculator(**{"model": pair_potential, "device": "cpu", **options})


def test_options_are_fixed(calc):
    with pytest.raises(ValueError, match="cannot set precision"):
        calc.set(precision="float32")
    assert AtomsMLCalculator(calc.potential, device="cpu", head="default").todict()["head"] == "default"


def test_select_device():
    assert select_device("cpu", "mixed") == torch.device("cpu")
    assert select_device("auto", "float64").type == ("cuda" if torch.cuda.is_available() else "cpu")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match=r"device 'cuda' is not available here; available: .*cpu"):
            select_device("cuda", "mixed")


def test_training_the_model_further_does_not_change_the_calculator(pair_potential, calc):
    before = calc.get_property("energy", argon())
    with torch.no_grad():
        pair_potential.sigma += 0.1
    calc.reset()
    assert calc.get_property("energy", argon()) == before
    assert not any(weight.requires_grad for weight in calc.potential.parameters())
    assert pair_potential.sigma.requires_grad


def test_copies_share_weights_but_not_results(calc):
    atoms = argon()
    atoms.calc = calc
    energy = atoms.get_potential_energy()
    twin = copy.deepcopy(atoms)
    assert twin.calc is not calc
    assert twin.calc.potential is calc.potential
    twin.positions[0] += 0.1
    assert twin.get_potential_energy() != energy
    assert calc.results["energy"] == energy


def test_pickle_carries_the_weights(calc):
    atoms = argon()
    forces = calc.get_property("forces", atoms)
    again = pickle.loads(pickle.dumps(calc))
    assert again.potential is not calc.potential
    again.reset()
    assert np.array_equal(again.get_property("forces", atoms), forces)
    assert again.todict() == calc.todict()


@pytest.fixture
def model_file(tmp_path, pair_potential, monkeypatch):
    from atomsml.potentials import POTENTIALS

    monkeypatch.setitem(POTENTIALS, "pair", type(pair_potential))
    path = tmp_path / "pair.safetensors"
    modelfile.save(pair_potential, path, {"kind": "molecules", "head": "argon"})
    return path


def test_from_a_file(model_file, calc, monkeypatch):
    monkeypatch.chdir(model_file.parent)
    for model in (model_file, str(model_file), "pair.safetensors"):
        from_file = AtomsMLCalculator(model, device="cpu", precision="float64", head="argon")
        assert from_file.get_property("energy", argon()) == calc.get_property("energy", argon())
        parameters = json.loads(json.dumps(from_file.todict()))
        assert parameters == {
            "model": str(model_file),
            "device": "cpu",
            "precision": "float64",
            "head": "argon",
            "exact": False,
            "d3": None,
        }
        AtomsMLCalculator(**parameters)
    with pytest.raises(ValueError, match=r"unknown head 'neon'; .*pair\.safetensors has one head: 'argon'"):
        AtomsMLCalculator(model_file, head="neon")


def test_ase_formats_keep_results(calc, tmp_path):
    atoms = argon()
    atoms.calc = calc
    wanted = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces(), "stress": atoms.get_stress()}
    ase.io.write(tmp_path / "a.traj", atoms)
    with ase.db.connect(tmp_path / "a.db") as database:
        row = database.get(database.write(atoms))
    for again in (ase.io.read(tmp_path / "a.traj"), row.toatoms()):
        for name, value in wanted.items():
            np.testing.assert_allclose(again.calc.results[name], value, rtol=0, atol=1e-12)
    assert row.calculator_parameters["precision"] == "float64"


def test_relaxes_atoms_and_cell_with_ase(calc):
    atoms = argon(a=3.1)
    atoms.calc = calc
    assert BFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=1e-4, steps=200)
    assert np.abs(atoms.get_stress()).max() < 2e-5  # fmax bounds stress times volume per atom
    assert atoms.get_distance(0, 1, mic=True) == pytest.approx(2 ** (1 / 6) * 2.0, rel=0.05)


def test_import_needs_nothing_heavy():
    heavy = {"rdkit", "pymatgen", "pytest", "e3nn"}
    code = f"import sys, atomsml.interfaces.ase, atomsml.testing; print(*{heavy} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.fixture
def impatient():
    """Threads that take turns a thousand times more often than usual."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.parametrize("clone", [lambda x: x, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_threads_that_share_a_calculator_get_what_one_gets(clone, impatient):
    calculator = clone(AtomsMLCalculator("organic-xtb"))
    structures = [molecule(name) for name in ("H2O", "CH4", "CH3OH", "NH3", "C2H6")] * 40
    for i, atoms in enumerate(structures):
        atoms.rattle(0.02, seed=i)

    def ask(atoms):
        atoms = atoms.copy()
        atoms.calc = calculator
        return atoms.get_forces(), atoms.get_potential_energy()

    alone = [ask(atoms) for atoms in structures]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(ask, structures))
    for (forces, energy), (forces_alone, energy_alone) in zip(together, alone, strict=True):
        assert np.array_equal(forces, forces_alone)
        assert energy == energy_alone


def test_atoms_in_one_place_are_an_error():
    atoms = ase.Atoms("OHH", [[0, 0, 0], [0, 0, 0.96], [0, 0, 0.96]])
    atoms.calc = AtomsMLCalculator("organic-xtb")
    for ask in (atoms.get_potential_energy, atoms.get_forces):
        with pytest.raises(ValueError, match="atoms 1 and 2 are less than"):
            ask()
    assert atoms.calc.results == {}
