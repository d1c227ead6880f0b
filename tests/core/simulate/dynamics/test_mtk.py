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
from atomsml.simulate.dynamics.cell_motion import CELL_MOTIONS
from atomsml.simulate.dynamics.mtk import MTK, MTKMemory
from atomsml.simulate.model import Model
from atomsml.simulate.state import State
from atomsml.testing.model_potentials import AskingCalculator, IdealGas, LennardJones
from atomsml.units import GPA, KB

TEMPERATURE = 60.0  # K, of solid argon
PRESSURE = 0.05  # GPa
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


def started(atoms, cell, timestep, pressure=PRESSURE):
    state, model = State.of(atoms), Model(ARGON, ARGON.cutoff)
    model(state, stress=True)
    integrator = MTK(timestep, TEMPERATURE, pressure, thermostat_time=100, barostat_time=300, cell=cell)
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
    barostat._R[0] = CELL_MOTIONS[cell].freedom * barostat._kT * barostat._pdamp**2
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
    """Halfway one system leaves and another enters."""
    drifts = []
    for timestep in (4.0, 2.0):
        steps = int(120 / timestep)
        state, model, integrator, memory = started([argon(seed=1), argon(seed=2)], cell, timestep)
        late, _, _, late_memory = started([argon((2, 1, 1), seed=3)], cell, timestep)
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


# volumes


def of_volumes(atoms, sizes, rng):
    """Systems of the given volumes with velocities as in equilibrium; atoms anywhere."""
    systems = len(sizes)
    state = State.of([atoms] * systems)
    state.cell = state.cell * torch.from_numpy(np.cbrt(sizes / volume(state.cell).numpy()))[:, None, None]
    state.positions = torch.bmm(torch.from_numpy(rng.random((len(state.positions), 1, 3))), state.cell[state.batch])[
        :, 0
    ]
    width = np.sqrt(KB * TEMPERATURE / state.masses.numpy())[:, None]
    state.velocities = torch.from_numpy(rng.standard_normal((state.num_atoms, 3)) * width)
    return state


def stir(state, integrator, memory: MTKMemory, rng):
    """Strain rates and chains as in equilibrium."""
    normal = torch.from_numpy(rng.standard_normal((state.num_systems, 3, 3)))
    memory.strain_rate = (
        integrator.motion.project(normal, state.cell)
        / (integrator._mass(state, memory) / (KB * TEMPERATURE)).sqrt()[:, None, None]
    )
    weights = torch.ones_like(memory.atom_rate)
    weights[:, 0] = memory.freedom
    memory.atom_rate = (
        torch.from_numpy(rng.standard_normal(weights.shape)) / weights.sqrt() / integrator.thermostat_time
    )
    weights = weights.clone()
    weights[:, 0] = integrator.motion.freedom
    memory.cell_rate = torch.from_numpy(rng.standard_normal(weights.shape)) / weights.sqrt() / integrator.barostat_time


def chi_square(samples, distribution, bins=20):
    """The probability that the samples come from the distribution, by Pearson's test in bins of equal probability."""
    counts, _ = np.histogram(distribution.cdf(samples), bins=bins, range=(0, 1))
    return stats.chisquare(counts).pvalue


@pytest.mark.parametrize("cell", CELL_MOTIONS)
def test_volumes_of_an_ideal_gas_stay_distributed_by_v_to_the_n(cell):
    """2,000 systems of five atoms from the exact distribution, three times the period of the barostat later."""
    rng, systems, count = np.random.default_rng(0), 2000, 5
    atoms = ase.Atoms(f"Ar{count}", cell=np.eye(3) * 10, pbc=True)
    exact = stats.gamma(count + 1, scale=KB * TEMPERATURE / (PRESSURE * GPA))
    integrator = MTK(15.0, TEMPERATURE, PRESSURE, thermostat_time=200, barostat_time=300, cell=cell)
    state, model = of_volumes(atoms, exact.rvs(systems, random_state=rng), rng), Model(IdealGas())
    model(state, stress=True)
    memory = integrator.start(state)
    stir(state, integrator, memory, rng)
    before = volume(state.cell)
    for _ in range(60):
        integrator.step(state, memory, model)
    after = volume(state.cell)
    assert abs(np.corrcoef(before, after)[0, 1]) < 0.5
    assert chi_square(after.numpy(), exact) > 1e-3
    assert chi_square(after.numpy(), stats.gamma(count, scale=exact.kwds["scale"])) < 1e-6


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
