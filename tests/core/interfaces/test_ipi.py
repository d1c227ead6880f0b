"""i-PI beside the calculator and its own driver for ASE, and path integrals of a harmonic crystal beside the exact."""

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import ase
import numpy as np
import pytest
import torch
from ase import units
from ase.build import bulk, molecule
from ase.calculators.socketio import SocketClient, SocketIOCalculator
from ase.io import write
from torch import Tensor, nn

from atomsml import AtomsMLCalculator
from atomsml.geometry import ImpossibleGeometry
from atomsml.graph import NeighborGraph
from atomsml.potential import Potential

pytest.importorskip("ipi", reason='i-PI is not installed: pip install "atomsml[ipi]"')

from ipi.pes._ase import ASEDriver
from ipi.scripting import InteractiveSimulation, motion_nvt_xml, simulation_xml
from ipi.utils.softexit import softexit

from atomsml.interfaces.ipi import AtomsMLDriver, forcefield_xml


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    """i-PI waits for files called EXIT, and for signals, until it is told not to."""
    yield
    for _, goes_on in softexit.tlist:
        goes_on[0] = False
    softexit.reset()


SILENT = "<output><properties filename='out'> [step] </properties></output>"
NVE = "<motion mode='dynamics'><dynamics mode='nve'><timestep units='ase'> {} </timestep></dynamics></motion>"


def tungsten() -> ase.Atoms:
    """A strained, skewed and shaken crystal, whose stress has six different components."""
    atoms = bulk("W", cubic=True) * (2, 1, 1)
    atoms.set_cell(atoms.cell.array @ [[1.01, 0, 0], [0.03, 0.99, 0], [-0.02, 0.04, 1.02]], True)
    atoms.rattle(0.1, seed=0)
    return atoms


def water() -> ase.Atoms:
    atoms = molecule("H2O", vacuum=5.0)
    atoms.pbc = False
    atoms.rattle(0.05, seed=1)
    return atoms


def beads(atoms: ase.Atoms, count: int) -> list[ase.Atoms]:
    """Copies that differ."""
    copies = [atoms.copy() for _ in range(count)]
    for seed, copy in enumerate(copies):
        copy.rattle(0.03, seed=seed)
    return copies


def seeded(*words: object) -> str:
    """i-PI's own description of a simulation, with random numbers that are the same each time."""
    return simulation_xml(*words).replace("<system>", "<prng><seed> 1 </seed></prng><system>", 1)


def of_ipi(structures: list[ase.Atoms]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Cells and positions as i-PI gives them."""
    return [x.cell.array.T / units.Bohr for x in structures], [x.positions / units.Bohr for x in structures]


def test_a_crystal_is_what_the_driver_of_ase_says_of_it(tmp_path):
    """To the digits of i-PI, whose electronvolt is 1e-7 and whose Angstrom 7e-9 off those of ASE, which are ours."""
    write(tmp_path / "w.xyz", tungsten())
    theirs = ASEDriver(str(tmp_path / "w.xyz"))
    theirs.ase_calculator = AtomsMLCalculator("refractory-pbe", precision="float64")
    ours = AtomsMLDriver("refractory-pbe", tmp_path / "w.xyz", precision="float64")
    structures = beads(tungsten(), 3)
    structures[1].set_cell(1.02 * structures[1].cell.array, scale_atoms=True)
    batch = ours(*of_ipi(structures))
    for i, (cell, positions) in enumerate(zip(*of_ipi(structures), strict=True)):
        *wanted, _ = theirs(cell, positions)
        *alone, extras = ours(cell, positions)
        assert batch[i][3] == extras == ""
        for found, other, single in zip(batch[i], wanted, alone, strict=False):
            np.testing.assert_allclose(np.ravel(found), np.ravel(other), rtol=2e-7, atol=1e-6)
            np.testing.assert_allclose(found, single, rtol=1e-10, atol=1e-10)


def test_a_molecule_has_the_forces_of_the_calculator_and_the_virial_of_its_energy(tmp_path):
    write(tmp_path / "water.xyz", water())
    driver = AtomsMLDriver("organic-xtb", tmp_path / "water.xyz", precision="float64")
    ((cell,), (positions,)), atoms, h = of_ipi([water()]), water(), 1e-4
    energy, forces, virial, _ = driver(cell, positions)
    atoms.calc = AtomsMLCalculator("organic-xtb", precision="float64")
    np.testing.assert_allclose(energy * units.Hartree, atoms.get_potential_energy(), atol=1e-9)
    np.testing.assert_allclose(forces * units.Hartree / units.Bohr, atoms.get_forces(), atol=1e-9)
    strains = [np.eye(3) for _ in range(2)]
    for sign, strain in zip((1, -1), strains, strict=True):
        strain[0, 1] = strain[1, 0] = sign * h
        strain[2, 2] += sign * h
    plus, minus = (driver(cell, positions @ strain)[0] for strain in strains)
    assert -(plus - minus) / (2 * h) == pytest.approx(virial[0, 1] + virial[1, 0] + virial[2, 2], abs=1e-6)


def test_beads_are_one_batch_and_their_dynamics_conserves_energy(tmp_path, monkeypatch):
    """The error of the conserved energy of a ring polymer goes with the square of the time step."""
    monkeypatch.chdir(tmp_path)
    write("water.xyz", water())
    errors, batches = [], []
    for timestep in (0.5, 0.25):
        field = forcefield_xml("organic-xtb", "water.xyz", beads=4, precision="float64")
        motion = NVE.format(timestep * units.fs)
        simulation = InteractiveSimulation(seeded(beads(water(), 4), field, motion, 300.0, SILENT))
        driver = simulation.fflist["atomsml"].driver
        answer = driver.compute
        driver.compute = lambda cell, pos, answer=answer: (batches.append(len(pos)), answer(cell, pos))[1]
        energies = []
        for _ in range(int(10 / timestep)):
            simulation.run(1, write_outputs=False)
            energies.append(simulation.properties("conserved"))
        errors.append(np.std(energies))
    assert set(batches) == {4}
    assert len(batches) in (60, 62)  # steps, and the two starts
    assert errors[0] / errors[1] == pytest.approx(4, abs=1)
    frames = simulation.get_structures()
    for frame in frames:
        said = frame.get_forces()
        frame.pbc, frame.calc = False, AtomsMLCalculator("organic-xtb", precision="float64")
        np.testing.assert_allclose(said, frame.get_forces(), atol=1e-9)


@dataclass(frozen=True)
class HarmonicConfig:
    elements: tuple[int, ...] = (1,)
    cutoff: float = 1.0


class HarmonicCrystal(Potential):
    """Half of u K u, with u how far atoms are from their sites."""

    Config = HarmonicConfig

    def __init__(self, sites: np.ndarray, constants: np.ndarray) -> None:
        super().__init__(HarmonicConfig())
        self.constants = nn.Parameter(torch.tensor(constants))
        self.sites = torch.tensor(sites)

    def forward(self, graph: NeighborGraph) -> Tensor:
        away = (graph.positions.reshape(-1, *self.sites.shape) - self.sites).flatten(1)
        return (0.5 * away * (away @ self.constants)).reshape(-1, 3).sum(dim=1)


@dataclass(frozen=True)
class Crystal:
    """Atoms on their sites, force constants (eV/A^2), and modes: frequencies squared, and vectors in columns."""

    atoms: ase.Atoms
    constants: np.ndarray
    squares: np.ndarray
    vectors: np.ndarray


def hydrogen_crystal(n: int) -> Crystal:
    """Springs of 2 eV/A^2 to the sites and of 1.5 between neighbours: quanta of 0.09 to 0.29 eV."""
    atoms = bulk("H", "sc", a=2.0) * (n, n, n)
    distances = atoms.get_all_distances(mic=True)
    springs = np.isclose(distances, 2.0) * -1.5
    springs += np.diag(2.0 - springs.sum(axis=1))
    constants = np.kron(springs, np.eye(3))
    squares, vectors = np.linalg.eigh(constants / atoms.get_masses()[0])
    return Crystal(atoms, constants, squares, vectors)


def ring_frequencies(count: int, temperature: float) -> np.ndarray:
    """Of the free ring polymer, in ASE's units."""
    hbar = units._hbar * units.J * units.s
    return 2 * count * units.kB * temperature / hbar * np.sin(np.arange(count) * np.pi / count)


def sampled(crystal: Crystal, count: int, temperature: float, seed: int) -> list[ase.Atoms]:
    """Beads, drawn from the distribution of their positions that the harmonic crystal has."""
    variance = count * units.kB * temperature
    variance = variance / (crystal.squares[:, None] + ring_frequencies(count, temperature) ** 2)
    angle = 2 * np.pi * np.outer(np.arange(count), np.arange(count)) / count
    real = np.cos(angle) + np.sin(angle)  # the Hartley transform, whose rows are orthogonal
    drawn = np.random.default_rng(seed).normal(size=variance.shape) * np.sqrt(variance)
    away = crystal.vectors @ drawn @ real / np.sqrt(count) / np.sqrt(crystal.atoms.get_masses()[0])
    copies = [crystal.atoms.copy() for _ in range(count)]
    for i, copy in enumerate(copies):
        copy.positions += away[:, i].reshape(-1, 3)
    return copies


def kinetic_energies(crystal: Crystal, count: int, temperature: float, steps: int) -> np.ndarray:
    """(steps,) the centroid virial estimator (eV), from beads in equilibrium."""
    write("crystal.xyz", crystal.atoms)
    field = forcefield_xml("organic-xtb", "crystal.xyz", beads=count, precision="float64")
    motion = motion_nvt_xml(0.25 * units.fs, "pile_l", path_integrals=True, tau=10 * units.fs, fixcom=False)
    xml = seeded(sampled(crystal, count, temperature, 0), field, motion, temperature, SILENT)
    simulation = InteractiveSimulation(xml)
    potential = HarmonicCrystal(crystal.atoms.positions, crystal.constants)
    simulation.fflist["atomsml"].driver = AtomsMLDriver(potential, "crystal.xyz", precision="float64")
    found = []
    for _ in range(steps):
        simulation.run(1, write_outputs=False)
        found.append(simulation.properties("kinetic_cv"))
    return np.array(found)


def exact(crystal: Crystal, temperature: float) -> float:
    """Sum of (hbar omega / 4) coth(hbar omega / 2kT) over all modes, eV."""
    quanta = units._hbar * units.J * units.s * np.sqrt(crystal.squares)
    return float(np.sum(quanta / 4 / np.tanh(quanta / (2 * units.kB * temperature))))


def exact_of_beads(crystal: Crystal, count: int, temperature: float) -> float:
    """The same of so many beads: kT/2 times the sum of omega^2 / (omega^2 + omega_k^2)."""
    rings = ring_frequencies(count, temperature) ** 2
    return float(units.kB * temperature / 2 * np.sum(crystal.squares[:, None] / (crystal.squares[:, None] + rings)))


def standard_error(values: np.ndarray, blocks: int) -> float:
    means = values[: len(values) // blocks * blocks].reshape(blocks, -1).mean(axis=1)
    return float(means.std(ddof=1) / np.sqrt(blocks))


def test_kinetic_energy_of_a_harmonic_crystal_as_its_beads_have_it(tmp_path, monkeypatch):
    """Classical, it is a third of this; of infinitely many beads, an eighth more."""
    monkeypatch.chdir(tmp_path)
    crystal = hydrogen_crystal(4)
    found, wanted = kinetic_energies(crystal, 8, 300.0, steps=40), exact_of_beads(crystal, 8, 300.0)
    assert wanted == pytest.approx(exact(crystal, 300.0), rel=0.2)
    assert found.mean() == pytest.approx(wanted, rel=0.04)


@pytest.mark.slow
def test_kinetic_energy_of_a_harmonic_crystal_is_that_of_quantum_mechanics(tmp_path, monkeypatch):
    """To 1 %: 0.1 % are missing with 32 beads, and the time step adds 0.2 %."""
    monkeypatch.chdir(tmp_path)
    crystal = hydrogen_crystal(2)
    found, wanted = kinetic_energies(crystal, 32, 600.0, steps=4000), exact(crystal, 600.0)
    assert standard_error(found, 10) / wanted < 0.004
    assert found.mean() == pytest.approx(wanted, rel=0.01)


def test_the_socket_of_ase_carries_what_the_calculator_says():
    """ASE's client and its server, with the calculator as it is."""
    atoms, beside, client = tungsten(), tungsten(), tungsten()
    client.calc, beside.calc = (AtomsMLCalculator("refractory-pbe", precision="float64") for _ in range(2))
    name = f"atomsml-{os.getpid()}"
    with SocketIOCalculator(unixsocket=name, timeout=60) as atoms.calc:
        run = SocketClient(unixsocket=name, timeout=60).run
        thread = threading.Thread(target=run, args=(client, True), daemon=True)
        thread.start()
        for seed in range(3):
            atoms.rattle(0.05, seed=seed)
            beside.positions = atoms.positions
            assert atoms.get_potential_energy() == pytest.approx(beside.get_potential_energy(), abs=1e-9)
            np.testing.assert_allclose(atoms.get_forces(), beside.get_forces(), atol=1e-9)
            np.testing.assert_allclose(atoms.get_stress(), beside.get_stress(), atol=1e-9)
    thread.join(10)
    assert not thread.is_alive()


def test_bad_input_is_told_in_a_line(tmp_path):
    write(tmp_path / "water.xyz", water())
    write(tmp_path / "two.xyz", [water(), water()])
    write(tmp_path / "w.xyz", tungsten())
    driver = AtomsMLDriver("organic-xtb", tmp_path / "water.xyz")
    ((cell,), (positions,)) = of_ipi([water()])
    with pytest.raises(ValueError, match="the template has 3 atoms, i-PI 2; they must be the same"):
        driver([cell], [positions[:2]])
    with pytest.raises(ImpossibleGeometry, match="do atoms overlap"):
        driver([cell, cell], [positions, 0 * positions])
    assert np.isfinite(driver(cell, positions)[0])  # and goes on
    with pytest.raises(ValueError, match="has 2 structures; give one"):
        AtomsMLDriver("organic-xtb", tmp_path / "two.xyz")
    with pytest.raises(ValueError, match="does not know W"):
        AtomsMLDriver("organic-xtb", tmp_path / "w.xyz")
    with pytest.raises(ValueError, match="beads must be at least 1"):
        forcefield_xml("organic-xtb", "water.xyz", beads=0)
    with pytest.raises(ValueError, match="cannot hold ','; rename it"):
        forcefield_xml("organic-xtb", "a,b.xyz")
