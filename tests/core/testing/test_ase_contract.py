"""assert_ase_contract() must pass what is right and catch, by name, what is wrong."""

import os

import numpy as np
import pytest
import torch
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from torch import nn

from atomsml.testing import assert_ase_contract


def lennard_jones(cls=LennardJones):
    return cls(sigma=2.0, epsilon=0.1, rc=5.0, smooth=True)


def test_the_contract_holds_for_ase_itself():
    assert_ase_contract(lennard_jones())


def test_the_contract_finds_what_ase_breaks():
    # EMT keeps a lambda, with which no calculation can be sent to another process
    with pytest.raises(AssertionError, match=r"point 13 \(copies\): pickle failed"):
        assert_ase_contract(EMT(), ("Cu", "Au"), spacing=2.5)


class Base(LennardJones):
    """Lennard-Jones whose results a subclass can spoil; lists and options of its own."""

    implemented_properties = ("energy", "energies", "forces", "free_energy", "stress")

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.spoil(self.results)

    def spoil(self, results):
        pass


class NotInAse(Base):
    implemented_properties = ("energy", "forces", "free_energy", "virial")


class Twice(Base):
    implemented_properties = ("energy", "forces", "free_energy", "energy")


class MadeUp(Base):
    def get_property(self, name, atoms=None, allow_calculation=True):
        return 0.0 if name == "dipole" else super().get_property(name, atoms, allow_calculation)


class NoFreeEnergy(Base):
    implemented_properties = ("energy", "forces", "stress")


class OtherFreeEnergy(Base):
    def spoil(self, results):
        results["free_energy"] = results["energy"] - 0.1


class StressOrder(Base):
    def spoil(self, results):
        if "stress" in results:
            results["stress"] = results["stress"][[0, 1, 2, 5, 4, 3]]  # xx yy zz xy xz yz


class StressSign(Base):
    def spoil(self, results):
        if "stress" in results:
            results["stress"] = -results["stress"]


class StressMatrix(Base):
    def spoil(self, results):
        if "stress" in results:
            results["stress"] = np.zeros((3, 3))


class StressOfMolecules(Base):
    def spoil(self, results):
        results.setdefault("stress", np.zeros(6))


class AnyIsAll(Base):
    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        atoms = atoms.copy()
        atoms.pbc = atoms.pbc.any()
        super().calculate(atoms, properties, system_changes)


class WrongForces(Base):
    def spoil(self, results):
        results["forces"] = 1.1 * results["forces"]


class MaskedForces(Base):
    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        for constraint in atoms.constraints:
            self.results["forces"][constraint.index] = 0

    def check_state(self, atoms, tol=1e-15):
        return super().check_state(atoms, tol) + (["constraints"] if atoms.constraints else [])


class SeldomAgain(Base):
    def check_state(self, atoms, tol=1e-15):
        return super().check_state(atoms, tol=0.5)


class AlwaysAgain(Base):
    def check_state(self, atoms, tol=1e-15):
        return list(all_changes)


class Aliased(Base):
    def get_property(self, name, atoms=None, allow_calculation=True):
        value = super().get_property(name, atoms, allow_calculation)
        return self.results[name] if value is not None else None


class Mutating(Base):
    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        if atoms is not None:
            atoms.wrap()
            atoms.positions += 1e-3
        super().calculate(atoms, properties, system_changes)


class Marking(Base):
    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        atoms.info["computed"] = True


class KeepsOldResults(Base):
    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        old = dict(self.results)
        super().calculate(atoms, properties, system_changes)
        new = {name: self.results[name] for name in ("energy", "free_energy")}
        self.results = old | new | {name: self.results[name] for name in set(self.results) - set(old)}


class Torch(Base):
    def spoil(self, results):
        results["forces"] = torch.tensor(results["forces"])


class SinglePrecision(Base):
    def spoil(self, results):
        results["forces"] = results["forces"].astype(np.float32)


class Transposed(Base):
    def spoil(self, results):
        results["forces"] = np.asfortranarray(results["forces"])


class ArrayEnergy(Base):
    def spoil(self, results):
        results["energy"] = np.array([results["energy"]])


class NotANumber(Base):
    def spoil(self, results):
        results["forces"] = results["forces"] * np.nan


class DoNotSum(Base):
    def spoil(self, results):
        results["energies"] = results["energies"] - 1.0


class DefaultDtype(Base):
    def spoil(self, results):
        torch.set_default_dtype(torch.float64)


class Environment(Base):
    def spoil(self, results):
        os.environ["ATOMSML_TEST"] = str(id(results))


class RandomState(Base):
    def spoil(self, results):
        np.random.random()  # noqa: NPY002  (the defect)


class NoPickle(Base):
    def spoil(self, results):
        self.callback = lambda: None


class NoJson(Base):
    def todict(self, skip_default=True):
        return {"model": nn.Linear(2, 2)}


class Leaking(Base):
    kept: list = []  # noqa: RUF012  (the defect)

    def spoil(self, results):
        self.kept.append(torch.zeros(3))


@pytest.fixture
def restored():
    """What the broken calculators below leave behind."""
    dtype = torch.get_default_dtype()
    yield
    torch.set_default_dtype(dtype)
    os.environ.pop("ATOMSML_TEST", None)
    Leaking.kept.clear()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # Lennard-Jones divides by zero where a defect brings it there
@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (NotInAse, r"point 1 \(implemented_properties\): ASE has no properties \['virial'\]"),
        (Twice, r"point 1 \(implemented_properties\): a name occurs twice"),
        (MadeUp, r"point 1 \(implemented_properties\): asking for dipole"),
        (NoFreeEnergy, r"point 2 \(free_energy\): it is not implemented"),
        (OtherFreeEnergy, r"point 2 \(free_energy\): it differs from energy"),
        (StressOrder, r"point 3 \(stress\): .* against finite differences is off"),
        (StressSign, r"point 3 \(stress\): .* against finite differences is off"),
        (StressMatrix, r"point 3 \(stress\): shape \(3, 3\), expected \(6,\)"),
        (StressOfMolecules, r"point 4 \(no volume\): a molecule without a cell has no stress"),
        (AnyIsAll, r"point 5 \(pbc\): the energy of a slab whose open axis has a cell vector"),
        (WrongForces, r"point 6 \(forces\): off by .* from finite differences"),
        (MaskedForces, r"point 6 \(forces\): the result with a constraint"),
        (SeldomAgain, r"point 7 \(cache\): moved atoms do not ask for a new calculation"),
        (AlwaysAgain, r"point 7 \(cache\): an unchanged structure is computed again"),
        (Mutating, r"point 8 \(calculate\): it changed the atoms"),
        (Marking, r"point 8 \(calculate\): it changed the atoms"),
        (KeepsOldResults, r"point 8 \(calculate\): results keep (forces|energies) of an earlier structure"),
        (Torch, r"point 9 \(results\): forces must be a numpy array, got Tensor"),
        (SinglePrecision, r"point 9 \(results\): forces must be float64, got float32"),
        (Transposed, r"point 9 \(results\): forces must be C-contiguous"),
        (ArrayEnergy, r"point 9 \(results\): energy must be a float, got ndarray"),
        (NotANumber, r"point 9 \(results\): forces is not finite"),
        (Aliased, r"point 9 \(results\): the result after a caller wrote to the forces"),
        (DoNotSum, r"point 10 \(energies\): their sum"),
        (DefaultDtype, r"point 12 \(global state\): calculations changed torch's default dtype"),
        (Environment, r"point 12 \(global state\): calculations changed the environment"),
        (RandomState, r"point 12 \(global state\): calculations changed numpy's random state"),
        (NoJson, r"point 13 \(copies\): todict\(\) is no JSON"),
        (NoPickle, r"point 13 \(copies\): pickle failed"),
        (Leaking, r"point 14 \(memory\): after 6 more steps 6 more tensors are alive"),
    ],
    ids=lambda case: case.__name__ if isinstance(case, type) else "",
)
def test_the_contract_catches(broken, message, restored):
    with pytest.raises(AssertionError, match=message) as caught:
        assert_ase_contract(lennard_jones(broken))
    assert "\n" not in str(caught.value)


def test_the_contract_catches_a_changed_base_list(monkeypatch):
    monkeypatch.setattr(Calculator, "implemented_properties", ["energy"])
    with pytest.raises(AssertionError, match=r"point 1 .* ASE's base list, which all calculators share, was changed"):
        assert_ase_contract(lennard_jones())
