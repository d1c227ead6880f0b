"""TorchSimModel beside the calculator, which other tests compare with finite differences, and beside ASE's steps.

Both versions of TorchSim that are said to work run this file: 0.3 on Python 3.11, 0.6 on 3.12.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from typing import Any

import ase
import numpy as np
import pytest
import torch
from ase import units
from ase.build import bulk, molecule
from ase.md.velocitydistribution import thermalize_momenta
from ase.md.verlet import VelocityVerlet

from atomsml import AtomsMLCalculator
from atomsml.geometry import ImpossibleGeometry

ts: Any = pytest.importorskip("torch_sim", reason="TorchSim is not installed; pip install -e .[torch-sim]")
MDState: Any = importlib.import_module("torch_sim.integrators.md").MDState
validate_model_outputs: Any = importlib.import_module("torch_sim.models.interface").validate_model_outputs
TorchSimModel: Any = importlib.import_module("atomsml.interfaces.torch_sim").TorchSimModel


@pytest.fixture(scope="module")
def model() -> Any:
    return TorchSimModel("universal-small", "cpu", "float64")


@pytest.fixture
def crystals() -> list[ase.Atoms]:
    """Of different sizes, strained until no cell has a symmetry left: rows and columns of a cell then differ."""
    rng, found = np.random.default_rng(0), [bulk("NaCl", "rocksalt", a=5.6), bulk("Cu") * (2, 1, 1), bulk("Si")]
    for atoms in found:
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.05 * rng.normal(size=(3, 3))), scale_atoms=True)
        atoms.positions += rng.normal(scale=0.05, size=atoms.positions.shape) + 7
    return found


def assert_same(found: dict[str, torch.Tensor], systems: list[ase.Atoms], model: str, precision: str) -> None:
    """Rounding in float64 of some hundred terms of 1 eV; in the same program the same numbers come out."""
    calculator, start = AtomsMLCalculator(model, "cpu", precision), 0
    for i, atoms in enumerate(systems):
        atoms.calc = calculator
        end = start + len(atoms)
        assert found["energy"][i].item() == pytest.approx(atoms.get_potential_energy(), abs=1e-11)
        np.testing.assert_allclose(found["forces"][start:end], atoms.get_forces(), rtol=0, atol=1e-11)
        np.testing.assert_allclose(found["stress"][i], atoms.get_stress(voigt=False), rtol=0, atol=1e-12)
        start = end
    assert start == len(found["forces"])


def test_their_contract(model: Any) -> None:
    validate_model_outputs(model, torch.device("cpu"), torch.float64)


def test_a_batch_of_crystals(model: Any, crystals: list[ase.Atoms]) -> None:
    state = ts.initialize_state(crystals, model.device, model.dtype)
    found = model(state)
    assert_same(found, crystals, "universal-small", "float64")
    assert not any(value.requires_grad for value in found.values())
    swapped = crystals[::-1]  # systems come and go between two calls
    assert_same(model(ts.initialize_state(swapped, model.device, model.dtype)), swapped, "universal-small", "float64")


def test_what_is_not_wanted_is_not_there(model: Any, crystals: list[ase.Atoms]) -> None:
    state = ts.initialize_state(crystals, model.device, model.dtype)
    model.compute_stress = model.compute_forces = False
    assert set(model(state)) == {"energy"}
    model.compute_stress = model.compute_forces = True
    assert set(model(state)) == {"energy", "forces", "stress"}


def test_molecules_have_no_stress() -> None:
    model, molecules = TorchSimModel("organic-xtb", "cpu"), [molecule("CH3CH2OH"), molecule("H2O")]
    found = model(ts.initialize_state(molecules, model.device, model.dtype))
    calculator = AtomsMLCalculator("organic-xtb", "cpu")
    expected = [calculator.get_property("energy", atoms) for atoms in molecules]
    # sums of the network in float32: 10 ulp of some 10 eV
    np.testing.assert_allclose(found["energy"], expected, rtol=0, atol=1e-5)
    assert found["energy"].dtype == torch.float64
    assert found["stress"].isnan().all()


def test_steps_are_those_of_ase(model: Any, crystals: list[ase.Atoms]) -> None:
    """20 steps, in which lists with a skin serve: TorchSim's unit of time differs from ASE's by less than 1e-7."""
    start = [atoms.copy() for atoms in crystals]
    for seed, atoms in enumerate(start):
        thermalize_momenta(atoms, 300, rng=np.random.default_rng(seed))
    state = ts.initialize_state(start, model.device, model.dtype)
    momenta = torch.tensor(np.concatenate([atoms.get_momenta() for atoms in start]))
    names = ("positions", "masses", "cell", "pbc", "atomic_numbers", "system_idx")
    at_rest = {"energy": torch.zeros(3).double(), "forces": torch.zeros_like(state.positions)}
    state = MDState(**{name: getattr(state, name) for name in names}, momenta=momenta, **at_rest)
    nve = ts.nve if sys.version_info < (3, 12) else ts.Integrator.nve
    final = ts.integrate(state, model, integrator=nve, n_steps=20, temperature=300, timestep=0.001)
    for atoms in start:
        atoms.calc = AtomsMLCalculator("universal-small", "cpu", "float64")
        VelocityVerlet(atoms, units.fs).run(20)
    for atoms, before, now in zip(start, crystals, final.positions.split([len(atoms) for atoms in start]), strict=True):
        apart = np.linalg.solve(atoms.cell.T, (now.numpy() - atoms.positions).T)  # TorchSim wraps
        moved = np.abs(atoms.positions - before.positions).max()
        assert moved > 0.02
        np.testing.assert_allclose(atoms.cell.T @ (apart - apart.round()), 0, atol=1e-6 * moved)


def test_what_is_refused(model: Any, crystals: list[ase.Atoms]) -> None:
    with pytest.raises(
        ValueError, match=r"float32 on cpu, the model torch.float64 on cpu; make the state with device="
    ):
        model(ts.initialize_state(crystals, model.device, torch.float32))
    crystals[1].positions[1] = crystals[1].positions[0]
    state = ts.initialize_state(crystals, model.device, model.dtype)
    for _ in range(2):  # whoever asks again is told again
        with pytest.raises(ImpossibleGeometry, match="atoms 2 and 3 are less than"):
            model(state)
    other = TorchSimModel("refractory-pbe", "cpu")
    with pytest.raises(ValueError, match="does not know Cu"):
        other(ts.initialize_state([bulk("W"), bulk("Cu")], other.device, other.dtype))


def test_a_radical_is_refused() -> None:
    model = TorchSimModel("organic-xtb", "cpu")
    with pytest.raises(ValueError, match=r"system 1: it has an odd number of electrons \(9\)"):
        model(ts.initialize_state([molecule("H2O"), molecule("CH3")], model.device, model.dtype))


def test_without_torch_sim_a_line_says_how_to_get_it() -> None:
    code = "import sys; sys.modules['torch_sim'] = None; import atomsml.interfaces.torch_sim"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    line = 'ModuleNotFoundError: torch_sim is not installed; run `pip install "atomsml[torch-sim]"`'
    assert done.stderr.splitlines()[-1] == line
