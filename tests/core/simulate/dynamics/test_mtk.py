import ase
import numpy as np
import pytest
import torch
from ase import units
from ase.build import bulk
from ase.constraints import FixAtoms
from ase.md.nose_hoover_chain import MTKNPT, IsotropicMTKNPT, MaskedMTKNPT
from ase.md.velocitydistribution import thermalize_momenta
from scipy import stats

from atomsml.geometry import volume
from atomsml.simulate.dynamics import CELL_MOTIONS
from atomsml.simulate.dynamics.cell_motion import cell_motion
from atomsml.simulate.dynamics.mtk import MTK, MTKMemory
from atomsml.simulate.model import Model
from atomsml.simulate.schedules import Schedule
from atomsml.simulate.state import State
from atomsml.testing.model_potentials import AskingCalculator, LennardJones
from atomsml.units import GPA, KB
from tests.core.simulate.dynamics.volumes import (
    CASES,
    GAS,
    GAS_VOLUMES,
    KT,
    PRESSURE,
    TEMPERATURE,
    chi_square,
    systems_of,
)

ARGON = LennardJones(onset=4.0, cutoff=5.5)  # short, hence quick


class AtRest(ase.Atoms):
    """Atoms whose centre of mass rests, to barostats that do not know it.

    ASE's count 3N degrees of freedom of N atoms, where 3N - 3 move, and miss the share of the centre of mass in the
    pressure.
    """

    def get_global_number_of_atoms(self):
        return len(self) - 1

    def get_kinetic_stress(self, voigt=True):
        stress = super().get_kinetic_stress(voigt=False) - KB * TEMPERATURE / self.get_volume() * np.eye(3)
        return stress.ravel()[[0, 4, 8, 5, 2, 1]] if voigt else stress


def argon(repeat=(2, 2, 1), seed=0):
    """A crystal with random displacements and velocities, whose centre of mass rests."""
    rng = np.random.default_rng(seed)
    atoms = AtRest(bulk("Ar", cubic=True, a=5.4) * repeat)
    atoms.rattle(0.1, rng=rng)
    thermalize_momenta(atoms, TEMPERATURE, rng=rng)
    atoms.set_momenta(atoms.get_momenta() - atoms.get_momenta().mean(axis=0))
    return atoms


def started(atoms, cell, timestep, temperature=TEMPERATURE, pressure=PRESSURE):
    state, model = State.of(atoms), Model(ARGON, ARGON.cutoff)
    model(state, stress=True)
    integrator = MTK(timestep, temperature, pressure, thermostat_time=100, barostat_time=300, cell=cell)
    return state, model, integrator, integrator.start(state)


def ase_dynamics(atoms, cell, timestep):
    """ASE's dynamics with the masses of our chains: of isotropic cells its chain has nine times the mass; of full cells
    it counts nine degrees of freedom, where a symmetric matrix has six."""
    atoms.calc = AskingCalculator(ARGON, ARGON.cutoff)
    times = {"tdamp": 100 * units.fs, "pdamp": 300 * units.fs}
    given = {"timestep": timestep * units.fs, "temperature_K": TEMPERATURE, "pressure_au": PRESSURE * units.GPa}
    if cell == "isotropic":
        dynamics = IsotropicMTKNPT(atoms, **given, **times)
    elif cell == "anisotropic":
        dynamics = MaskedMTKNPT(atoms, **given, **times, mask=(True, True, True))
    else:
        dynamics = MTKNPT(atoms, **given, **times)
        dynamics._barostat._cell_dof = 6
    barostat = dynamics._barostat
    barostat._R[0] = cell_motion(cell).freedom * barostat._kT * barostat._pdamp**2
    return dynamics


@pytest.mark.parametrize("cell", CELL_MOTIONS)
def test_the_motion_is_that_of_ase_to_the_square_of_the_time_step(cell):
    differences = []
    for timestep in (4.0, 2.0):
        atoms = argon()
        state, model, integrator, memory = started([atoms], cell, timestep)
        dynamics = ase_dynamics(atoms, cell, timestep)
        for _ in range(int(120 / timestep)):
            integrator.step(state, memory, model)
        dynamics.run(int(120 / timestep))
        differences.append(
            max(
                np.abs(state.cell[0].numpy() - atoms.cell.array).max(),
                np.abs(state.positions.numpy() - atoms.positions).max(),
            )
        )
        moved = np.abs(atoms.cell.array - argon().cell.array).max()
    assert differences[1] < 1e-2 * moved
    assert differences[0] / differences[1] == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize("cell", CELL_MOTIONS)
def test_the_conserved_energy_falls_with_the_square_of_the_time_step_also_after_swaps(cell):
    """Halfway one system leaves and another enters; temperature and pressure change all the time."""
    drifts = []
    for timestep in (4.0, 2.0):
        steps = int(120 / timestep)
        ramps = Schedule((0, 60.0), (2 * steps, 80.0)), Schedule((0, 0.05), (2 * steps, 0.2))
        state, model, integrator, memory = started([argon(seed=1), argon(seed=2)], cell, timestep, *ramps)
        late, _, _, late_memory = started([argon((2, 1, 1), seed=3)], cell, timestep, *ramps)
        constant = integrator.conserved(state, memory)
        worst = 0.0
        for step in range(2 * steps):
            if step == steps:
                kept = torch.tensor([1])
                memory = memory.take(state.atoms_of(kept), kept).join([late_memory])
                state = state.systems(kept).join([late])
                constant = torch.cat([constant[1:], integrator.conserved(late, late_memory)])
            integrator.step(state, memory, model)
            worst = max(worst, (integrator.conserved(state, memory) - constant).abs().max().item())
        drifts.append(worst)
    assert drifts[1] < 1e-2 * KB * TEMPERATURE * 16
    assert drifts[0] / drifts[1] == pytest.approx(4, rel=0.25)


def test_what_is_in_the_batch_changes_nothing():
    together, model, integrator, memory = started([argon(seed=1), argon((2, 1, 1), seed=2)], "full", 4.0)
    alone, own_model, _, own_memory = started([argon((2, 1, 1), seed=2)], "full", 4.0)
    for _ in range(50):
        integrator.step(together, memory, model)
        integrator.step(alone, own_memory, own_model)
    assert together.positions[16:].numpy() == pytest.approx(alone.positions.numpy(), abs=1e-10)
    assert together.cell[1].numpy() == pytest.approx(alone.cell[0].numpy(), abs=1e-10)


def test_backwards_it_returns():
    state, model, integrator, memory = started([argon(seed=4)], "full", 4.0)
    start, size = state.positions, state.cell
    for way in range(2):
        for _ in range(50):
            integrator.step(state, memory, model)
        if way == 0:
            assert (state.cell - size).abs().max() > 0.1
            state.velocities, memory.strain_rate = -state.velocities, -memory.strain_rate
            memory.atom_rate, memory.cell_rate = -memory.atom_rate, -memory.cell_rate
    assert state.positions.numpy() == pytest.approx(start.numpy(), abs=1e-8)
    assert state.cell.numpy() == pytest.approx(size.numpy(), abs=1e-8)


def unit(cell):
    return cell.array / cell.lengths()[:, None]


def test_what_a_motion_holds_stays():
    skew = argon(seed=5)
    skew.set_cell(skew.cell.array @ [[1, 0.1, 0.2], [0, 1.1, -0.1], [0, 0, 0.9]], scale_atoms=True)
    start = skew.cell
    ends = {}
    for cell in CELL_MOTIONS:
        state, model, integrator, memory = started([skew], cell, 4.0)
        for _ in range(100):
            integrator.step(state, memory, model)
        ends[cell] = ase.cell.Cell(state.cell[0].numpy())
        assert np.abs(ends[cell].lengths() - start.lengths()).max() > 0.01
    growth = np.cbrt(ends["isotropic"].volume / start.volume)
    assert ends["isotropic"].array == pytest.approx(growth * start.array, abs=1e-12)
    assert unit(ends["anisotropic"]) == pytest.approx(unit(start), abs=1e-12)
    assert np.ptp(ends["anisotropic"].lengths() / start.lengths()) > 1e-3
    assert np.abs(ends["full"].angles() - start.angles()).max() > 0.1


def stir(state, integrator, memory: MTKMemory, rng):
    """Strain rates and chains as in equilibrium."""
    normal = torch.from_numpy(rng.standard_normal((state.num_systems, 3, 3)))
    mass = (memory.freedom + 3) * KT * integrator.barostat_time**2 / 3
    memory.strain_rate = integrator.motion.project(normal) * (KT / mass).sqrt()[:, None, None]
    weights = torch.ones_like(memory.atom_rate)
    weights[:, 0] = memory.freedom
    memory.atom_rate = (
        torch.from_numpy(rng.standard_normal(weights.shape)) / weights.sqrt() / integrator.thermostat_time
    )
    weights[:, 0] = integrator.motion.freedom
    memory.cell_rate = torch.from_numpy(rng.standard_normal(weights.shape)) / weights.sqrt() / integrator.barostat_time


@pytest.mark.parametrize(("case", "cell"), [*(("gas", cell) for cell in CELL_MOTIONS), ("crystal", "isotropic")])
def test_volumes_stay_distributed_as_they_must(case, cell):
    """2,000 systems from the exact distribution, after their volumes have changed.

    The volume of a gas is slow; that of the crystal oscillates with 2 pi sqrt(w / 3 B V) = 0.6 ps.
    """
    rng, systems = np.random.default_rng(0), 2000
    atoms, potential, exact = CASES[case]
    timestep, period, steps = (15.0, 300.0, 60) if case == "gas" else (10.0, 2000.0, 45)
    integrator = MTK(timestep, TEMPERATURE, PRESSURE, thermostat_time=200, barostat_time=period, cell=cell)
    state, model = systems_of(atoms, exact.rvs(systems, random_state=rng), rng), Model(potential)
    model(state, stress=True)
    memory = integrator.start(state)
    stir(state, integrator, memory, rng)
    before = volume(state.cell)
    for _ in range(steps):
        integrator.step(state, memory, model)
    after = volume(state.cell)
    assert abs(np.corrcoef(before, after)[0, 1]) < 0.5
    assert chi_square(after.numpy(), exact) > 1e-3


def test_the_chi_square_test_can_fail():
    """An atom more or less in an ideal gas is seen."""
    volumes = GAS_VOLUMES.rvs(2000, random_state=0)
    for atoms in (len(GAS) - 1, len(GAS) + 1):
        assert chi_square(volumes, stats.gamma(atoms + 1, scale=KT / (PRESSURE * GPA))) < 1e-6


def test_it_refuses_what_no_barostat_can_treat():
    slab, held = argon(), argon()
    slab.pbc = [True, True, False]
    held.set_constraint(FixAtoms([0]))
    for atoms, message in ((slab, "periodic along its three axes"), (held, "cannot be held")):
        with pytest.raises(ValueError, match=message):
            started([atoms], "full", 2.0)


def test_each_system_has_its_own_temperature_and_pressure():
    state, model = State.of([argon(seed=1), argon(seed=2)]), Model(ARGON, ARGON.cutoff)
    model(state, stress=True)
    own = MTK(4.0, [20.0, TEMPERATURE], [1.0, PRESSURE], thermostat_time=100, barostat_time=300)
    memory = own.start(state)
    alone, own_model, integrator, own_memory = started([argon(seed=2)], "isotropic", 4.0)
    for _ in range(20):
        own.step(state, memory, model)
        integrator.step(alone, own_memory, own_model)
    assert state.positions[16:].numpy() == pytest.approx(alone.positions.numpy(), abs=1e-10)
    assert volume(state.cell)[0] < 0.95 * volume(state.cell)[1]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"cell": "cubic"}, "unknown motion of the cell 'cubic'; there are isotropic"),
        ({"pressure": float("nan")}, "pressures must be numbers of GPa"),
        ({"temperature": -1.0}, "not below zero"),
        ({"temperature": [300.0, 0.0]}, "hold temperatures above zero"),
        ({"barostat_time": 0.0}, "barostat_time must be a positive number of fs"),
    ],
)
def test_it_refuses_impossible_parameters(wrong, message):
    with pytest.raises(ValueError, match=message):
        MTK(**{"timestep": 1.0, "temperature": 300.0, **wrong})
