"""Replica exchange: swaps alone keep every rung's distribution, and happen as often as they should."""

import ase
import numpy as np
import pytest
import torch
from ase.build import bulk
from scipy import stats

from atomsml.simulate.dynamics.csvr import CSVR
from atomsml.simulate.dynamics.langevin import Langevin
from atomsml.simulate.dynamics.nose_hoover import NoseHoover
from atomsml.simulate.dynamics.nve import NVE
from atomsml.simulate.dynamics.replica_exchange import ReplicaExchange
from atomsml.simulate.md import md
from atomsml.simulate.model import Model
from atomsml.simulate.state import State
from atomsml.simulate.trajectory.checkpoint import Checkpoint
from atomsml.testing.model_potentials import HarmonicWell, LennardJones
from atomsml.units import KB

STIFFNESS = 5.0  # eV/A^2
LADDER = [200.0, 280.0, 400.0, 560.0]  # K


def ladders(count: int, seed: int = 0) -> State:
    """Wells of two atoms, with positions from the Boltzmann distribution of their rung."""
    temperatures = np.tile(LADDER, count)
    widths = np.sqrt(KB * temperatures / STIFFNESS)[:, None, None]
    positions = np.random.default_rng(seed).normal(size=(len(temperatures), 2, 3)) * widths
    state = State.of([ase.Atoms("CO", positions=each) for each in positions])
    state.rest = torch.zeros_like(state.rest)
    state.group = torch.arange(count).repeat_interleave(len(LADDER))
    return state


def by_rung(values: torch.Tensor, state: State) -> np.ndarray:
    """(ladders, rungs)"""
    return values[state.index.argsort()].reshape(-1, len(LADDER)).numpy()


def test_swaps_alone_keep_every_distribution():
    """Of atoms that hardly move in 40 steps, in which every pair of rungs tries to swap 20 times."""
    count = 1000
    still = Langevin(1e-6, LADDER * count, thermostat_time=1e6)
    start = ladders(count)
    rows = start.index
    frames = md(start, Model(HarmonicWell(STIFFNESS)), ReplicaExchange(still, 1), 41, temperature=LADDER * count)
    kinetic, potential, swapped, swaps = [], [], [], 0.0
    for frame in frames:
        kt = KB * np.array(LADDER)
        kinetic.append(by_rung(frame.kinetic, frame.state) / kt)
        potential.append(by_rung(frame.potential, frame.state) / kt)
        swapped.append(by_rung((frame.state.index != rows).double(), frame.state).mean(axis=0))
        swaps += float((frame.state.index != rows).sum()) / 2
        rows = frame.state.index
    assert torch.equal(frame.memory.replica, torch.arange(4 * count))  # of each row its name
    assert (by_rung(frame.memory.tried, frame.state) == [20, 20, 20, 0]).all()
    assert frame.memory.swapped.sum() == swaps
    climbed = (rows - torch.arange(4 * count)).abs() > 1
    assert climbed.float().mean() > 0.2  # farther than one swap leads
    for energies in (kinetic, potential):
        for rung in range(len(LADDER)):
            assert stats.kstest(energies[-1][:, rung], stats.gamma(3).cdf).pvalue > 1e-3
    # how often rungs 1 and 2 swap, which they try at odd steps: against the mean over the exact distributions
    rng = np.random.default_rng(1)
    cold, warm = (rng.gamma(3, KB * LADDER[i], 10**6) for i in (1, 2))
    gain = (1 / (KB * LADDER[1]) - 1 / (KB * LADDER[2])) * (cold - warm)
    expected = np.minimum(1, np.exp(gain)).mean()
    assert swapped[2][1] == swapped[2][2]
    assert swapped[2][1] == pytest.approx(expected, abs=4 * np.sqrt(expected / count))


@pytest.mark.parametrize("thermostat", [Langevin, CSVR, NoseHoover])
def test_rungs_are_sampled_and_the_energy_is_conserved_through_swaps(thermostat):
    count = 60
    drifts = []
    for timestep in (2.0, 1.0):
        swapping = ReplicaExchange(thermostat(timestep, LADDER * count, 50.0), round(20 / timestep))
        rows, changes, potential = torch.arange(4 * count), 0, []
        frames = md(
            ladders(count), Model(HarmonicWell(STIFFNESS)), swapping, round(400 / timestep), temperature=LADDER * count
        )
        conserved = []
        for frame in frames:
            changes += int((frame.state.index != rows).sum())
            rows = frame.state.index
            conserved.append(frame.conserved.numpy())
            if frame.step * timestep % 100 == 0:
                potential.append(by_rung(frame.potential, frame.state) / (KB * np.array(LADDER)))
        assert changes > 4 * count
        for rung in range(len(LADDER)):
            assert stats.kstest(potential[-1][:, rung], stats.gamma(3).cdf).pvalue > 1e-3
        drifts.append(np.sqrt(np.square(np.array(conserved) - conserved[0]).mean()))
    assert drifts[0] / drifts[1] == pytest.approx(4, rel=0.3)


def test_a_ladder_goes_on_from_a_checkpoint_bit_for_bit():
    def start() -> State:
        state = State.of([bulk("Ar", "fcc", 5.3, cubic=True)] * 3)
        state.group[:] = 0
        return state

    def model() -> Model:
        return Model(LennardJones(onset=3.9, cutoff=4.8), 4.8)

    temperatures = [60.0, 62.0, 64.0]
    ladder = ReplicaExchange(Langevin(10.0, temperatures, 200.0), interval=5)
    *_, whole = md(start(), model(), ladder, 40, every=10, temperature=temperatures)
    first = model()
    *_, half = md(start(), first, ladder, 20, every=10, temperature=temperatures)
    second = model()
    state, memory = Checkpoint.of(half.state, half.memory, first).restore(ladder, second)
    *_, rest = md(state, second, ladder, 20, every=10, memory=memory)
    assert whole.state.index.tolist() != [0, 1, 2]
    for name in ("index", "positions", "velocities", "energy"):
        assert torch.equal(getattr(rest.state, name), getattr(whole.state, name))
    assert torch.equal(rest.conserved, whole.conserved)
    for name in ("replica", "tried", "swapped"):
        assert torch.equal(getattr(rest.memory, name), getattr(whole.memory, name))


def test_what_cannot_swap_is_refused():
    with pytest.raises(ValueError, match="under a thermostat"):
        ReplicaExchange(NVE(1.0), 10)
    state = State.of([ase.Atoms("CO", positions=np.zeros((2, 3))), ase.Atoms("CN", positions=np.zeros((2, 3)))])
    state.group = torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ValueError, match="numbers of the systems of ladder 0 differ"):
        ReplicaExchange(Langevin(1.0, [300.0, 400.0]), 10).start(state)
