"""Models: what the calculator says of each system alone; impossible systems by themselves; lists that are restored."""

from dataclasses import dataclass, field, replace

import ase
import numpy as np
import pytest
import torch
from ase.build import bulk, molecule

from atomsml import AtomsMLCalculator
from atomsml.geometry import ImpossibleGeometry
from atomsml.graph import AtomicGraph
from atomsml.potential import Potential, Prediction
from atomsml.potentials.mace import MACE, MACEConfig
from atomsml.potentials.mace.cpu import MACEOnCPU
from atomsml.simulate.dynamics.nve import NVE
from atomsml.simulate.model import Model
from atomsml.simulate.state import State
from atomsml.testing.model_potentials import LennardJones
from atomsml.uncertainty.last_layer import LastLayerUncertainty


@pytest.fixture(scope="module")
def mace() -> MACE:
    config = MACEConfig(elements=(1, 8), cutoff=3.5, channels=4, lmax=1, correlation=2, num_bessel=4, radial_mlp=(8,))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MACE(config)


def single(mace: MACE) -> Potential:
    return mace


def committee(mace: MACE) -> list[Potential]:
    return [mace, mace]


def last_layer(mace: MACE) -> LastLayerUncertainty:
    weights = sum(weight.numel() for weight in mace.last_layer())
    return LastLayerUncertainty(mace, 0.01 * torch.eye(weights, dtype=torch.float64), {})


def ice() -> ase.Atoms:
    return ase.Atoms("OH2", [[0, 0, 0], [0.95, 0, 0], [-0.3, 0.9, 0]], cell=[3.0, 3.2, 3.1], pbc=True)


@pytest.mark.parametrize(("kind", "exact"), [(single, False), (single, True), (committee, False), (last_layer, False)])
def test_of_a_calculator_it_says_of_each_system_what_the_calculator_says(mace, kind, exact):
    calculator = AtomsMLCalculator(kind(mace), precision="float64", exact=exact, device="cpu")
    structures = [molecule("H2O"), ice(), molecule("H2")]
    state, model = State.of(structures), Model.of(calculator)
    for _ in range(2):
        model(state, stress=True)
        for i, atoms in enumerate(structures):
            atoms.calc = calculator
            assert state.energy[i].item() == pytest.approx(atoms.get_potential_energy(), abs=1e-10)
            assert state.forces[state.batch == i].numpy() == pytest.approx(atoms.get_forces(), abs=1e-10)
        assert state.stress[1].numpy() == pytest.approx(structures[1].get_stress(voigt=False), abs=1e-10)
        assert state.stress[[0, 2]].isnan().all()
        for atoms in structures:
            atoms.rattle(0.02, seed=1)
        state.positions = torch.from_numpy(np.concatenate([atoms.positions for atoms in structures]))


def coinciding(atoms: ase.Atoms) -> None:
    atoms.positions[1] = atoms.positions[0]


def not_finite(atoms: ase.Atoms) -> None:
    atoms.positions[1, 2] = np.nan


def flat(atoms: ase.Atoms) -> None:
    atoms.cell[2] = atoms.cell[0]
    atoms.pbc = True


def crowded(atoms: ase.Atoms) -> None:
    atoms.cell = 0.05 * np.eye(3)
    atoms.pbc = True


# without a list, that atoms lie in one place shows in the energy only
@pytest.mark.parametrize(
    ("spoil", "listed"),
    [(coinciding, True), (not_finite, True), (flat, True), (crowded, True), (not_finite, False), (crowded, False)],
)
def test_a_system_without_an_answer_does_not_stop_the_others(spoil, listed):
    good, bad = [bulk("Ar", cubic=True), molecule("CH4"), bulk("Ne", cubic=True) * (2, 1, 1)], bulk("Ar", cubic=True)
    potential = LennardJones()
    model = Model(potential, potential.cutoff if listed else None)
    alone = State.of(good)
    model(alone, stress=True)
    spoil(bad)
    state = State.of([good[0], bad, good[1], bad, good[2]])
    for _ in range(2):  # who asks again is told again
        model(state, stress=True)
        sound = torch.tensor([0, 2, 4])
        assert state.energy[[1, 3]].isnan().all()
        assert state.forces[(state.batch % 2) == 1].isnan().all()
        assert torch.equal(state.energy[sound], alone.energy)
        assert torch.equal(state.forces[(state.batch % 2) == 0], alone.forces)
        assert torch.equal(state.stress[sound].nan_to_num(), alone.stress.nan_to_num())
    only = State.of([bad])
    model(only)
    assert only.energy.isnan().all()


def test_what_is_impossible_only_in_company_is_an_error():
    def predict(graph: AtomicGraph, forces: bool = True, stress: bool = False):
        raise ImpossibleGeometry("never")

    model = Model(predict, cutoff=3.0)
    with pytest.raises(ImpossibleGeometry, match="never"):
        model(State.of([molecule("H2O"), molecule("CH4")]))


def argon(seed: int, cells: int) -> ase.Atoms:
    atoms = bulk("Ar", cubic=True, a=5.4) * (cells, 1, 1)
    atoms.rattle(0.05, seed=seed)
    atoms.set_velocities(0.02 * np.random.default_rng(seed).normal(size=(len(atoms), 3)))
    return atoms


def test_a_run_goes_on_bit_for_bit_with_its_list():
    integrator, potential = NVE(5.0), LennardJones()
    model, state = Model(potential, potential.cutoff), State.of([argon(0, 1), argon(1, 2)])
    model(state)
    memory = integrator.start(state)
    kept = []
    for step in range(120):
        integrator.step(state, memory, model)
        if step == 60:
            origin = model.origin(state)
            kept = [replace(state), origin.take(torch.arange(state.num_atoms), torch.arange(2))]
    assert 2 < model.neighbors.rebuilds < 40
    again, other = kept[0], Model(potential, potential.cutoff)
    other.restore(again, kept[1])
    for _ in range(59):
        integrator.step(again, memory, other)
    for name in state.levels:
        assert torch.equal(getattr(state, name).nan_to_num(), getattr(again, name).nan_to_num()), name


def test_after_systems_have_left_the_next_list_is_new():
    potential = LennardJones()
    model, state = Model(potential, potential.cutoff), State.of([argon(0, 1), argon(1, 1)])
    model(state)
    origin = model.origin(state.systems(torch.tensor([1])))
    assert origin.positions.isnan().all()
    model.restore(state, origin)
    model(state)
    assert model.neighbors.rebuilds == 2


def test_systems_that_leave_and_enter_neither_need_a_new_plan_nor_change_the_others(mace, monkeypatch):
    plans, make = [], MACEOnCPU.new_plan
    monkeypatch.setattr(MACEOnCPU, "new_plan", lambda *given: plans.append(make(*given)) or plans[-1])
    model, alone = (Model.of(AtomsMLCalculator(mace, precision="float64", device="cpu")) for _ in range(2))
    rng = np.random.default_rng(0)
    waiting = [State.of([molecule(name)]) for name in rng.choice(["H2O", "H2", "O3", "H2O2", "O2"], 60)]
    single = []
    for system in waiting:
        alone(system)
        single.append(replace(system))
    plans.clear()
    state = waiting[0].join(waiting[1:20])
    for newcomer in waiting[20:]:
        model(state)
        state = state.systems(torch.arange(1, 20)).join([newcomer])
    model(state)
    assert len(plans) <= 3  # the first, and larger ones
    for name in ("energy", "forces"):
        together, wanted = getattr(state, name), torch.cat([getattr(system, name) for system in single[40:]])
        assert torch.allclose(together, wanted, rtol=0, atol=1e-10)


@dataclass(frozen=True)
class LittleMemory:
    """Lennard-Jones where there is memory for some atoms only."""

    most: int
    asked: list[int] = field(default_factory=list)

    def __call__(self, graph: AtomicGraph, forces: bool = True, stress: bool = False) -> Prediction:
        self.asked.append(graph.num_atoms)
        if graph.num_atoms > self.most:
            raise torch.OutOfMemoryError
        return LennardJones()(graph, forces, stress)


def test_out_of_memory_a_batch_is_evaluated_in_parts_from_then_on():
    structures = [argon(seed, 1 + seed % 2) for seed in range(7)]  # of 4 or 8 atoms
    wanted, state, little = State.of(structures), State.of(structures), LittleMemory(most=16)
    Model(LennardJones(), LennardJones().cutoff)(wanted, stress=True)
    model = Model(little, LennardJones().cutoff)
    with pytest.warns(UserWarning, match="out of memory with 7 systems of 40 atoms") as told:
        model(state, stress=True)
    assert len(told) == 2
    for name in ("energy", "forces", "stress"):
        assert torch.allclose(getattr(state, name), getattr(wanted, name), rtol=0, atol=1e-12)
    little.asked.clear()
    model(state, stress=True)
    assert max(little.asked) <= 16
    with pytest.raises(torch.OutOfMemoryError):
        Model(LittleMemory(most=3), LennardJones().cutoff)(State.of(structures[:1]))
