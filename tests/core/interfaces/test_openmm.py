"""OpenMM beside the calculator: forces, conservation, files, subsets of a force field, biases, and what is refused."""

import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import ase
import numpy as np
import pytest
from ase import units
from ase.build import bulk, molecule

from atomsml import AtomsMLCalculator

openmm = pytest.importorskip("openmm", reason='OpenMM is not installed: pip install "atomsml[openmm]"')
openmmml = pytest.importorskip("openmmml", reason='OpenMM-ML is not installed: pip install "atomsml[openmm]"')

from openmm import app, unit  # noqa: E402

from atomsml.interfaces.openmm import add_potential, system_of  # noqa: E402

ROOT = Path(__file__).parents[3]
KJ = units.kJ / units.mol
Found = tuple[float, np.ndarray]


def context(system: openmm.System, positions: np.ndarray, timestep: float = 0.5) -> openmm.Context:
    """On the Reference platform, which is in float64; positions in A, the time step in fs."""
    integrator = openmm.VerletIntegrator(timestep * unit.femtosecond)
    found = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    found.setPositions(positions / 10)
    return found


def asked(system: openmm.System, positions: np.ndarray) -> Found:
    """Energy (eV) and forces (eV/A)."""
    state = context(system, positions).getState(energy=True, forces=True)
    energy = state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole) * KJ
    return energy, state.getForces(asNumpy=True)._value * KJ / 10


def said(atoms: ase.Atoms, model: str) -> Found:
    atoms = atoms.copy()
    atoms.calc = AtomsMLCalculator(model, precision="float64")
    return atoms.get_potential_energy(), atoms.get_forces()


def ethanol() -> ase.Atoms:
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=0)
    return atoms


def tungsten() -> ase.Atoms:
    """Of a skewed cell in the shape that OpenMM wants."""
    atoms = bulk("W", cubic=True) * (2, 2, 2)
    atoms.set_cell(atoms.cell.array @ [[1, 0, 0], [0.1, 1, 0], [-0.1, 0.2, 1]], scale_atoms=True)
    atoms.rattle(0.1, seed=0)
    return atoms


@pytest.mark.parametrize(("make", "model"), [(ethanol, "organic-xtb"), (tungsten, "refractory-pbe")])
def test_forces_are_those_of_the_calculator_also_from_a_file(make, model):
    atoms = make()
    system, topology = system_of(atoms)
    force = add_potential(system, topology, model, precision="float64", group=3)
    assert force.getForceGroup() == 3
    assert system.usesPeriodicBoundaryConditions() == atoms.pbc.any()
    energy, forces = said(atoms, model)
    for one in (system, openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(system))):
        found = asked(one, atoms.positions)
        assert found[0] == pytest.approx(energy, abs=1e-9)
        np.testing.assert_allclose(found[1], forces, atol=1e-9)


def test_energy_is_conserved():
    """Its error goes with the square of the time step."""
    atoms, errors = ethanol(), []
    system, topology = system_of(atoms)
    add_potential(system, topology, "organic-xtb", precision="float64")
    for timestep in (0.5, 0.25):
        run, energies = context(system, atoms.positions, timestep), []
        run.setVelocitiesToTemperature(300, 1)
        for _ in range(int(20 / timestep)):
            run.getIntegrator().step(1)
            state = run.getState(energy=True)
            energies.append((state.getPotentialEnergy() + state.getKineticEnergy())._value)
        errors.append(np.std(energies))
    assert errors[0] * KJ < 0.01
    assert errors[0] / errors[1] == pytest.approx(4, abs=0.8)


@pytest.fixture(scope="module")
def potential() -> openmmml.MLPotential:
    """Registered as the entry point says, whether or not this version is what is installed."""
    group = "openmmml.potentials"
    named = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"][group]
    openmmml.MLPotential.registerImplFactory("atomsml", EntryPoint("atomsml", named["atomsml"], group).load()())
    return openmmml.MLPotential("atomsml", model="organic-xtb", precision="float64")


def waters(count: int) -> tuple[app.Topology, np.ndarray]:
    """Water molecules in a row, shaken; positions in A."""
    found, positions = app.Topology(), []
    chain, one = found.addChain(), molecule("H2O")
    for i in range(count):
        residue = found.addResidue("HOH", chain)
        oxygen, *hydrogens = (
            found.addAtom(name, app.Element.getBySymbol(name[0]), residue) for name in ("O", "H1", "H2")
        )
        for hydrogen in hydrogens:
            found.addBond(oxygen, hydrogen)
        positions.append(one.positions + np.array([3.0 * i, 0, 0]))
    return found, np.concatenate(positions) + 0.1 * np.random.default_rng(0).normal(size=(3 * count, 3))


def force_field(of: app.Topology) -> openmm.System:
    return app.ForceField("amber14/tip3p.xml").createSystem(of, rigidWater=False)


@pytest.mark.parametrize("interpolate", [False, True])
def test_a_subset_has_the_model_inside_and_the_force_field_outside(potential, interpolate):
    """E = E_field(all) - E_field(subset) + E_model(subset), and so do forces."""
    every, positions = waters(3)
    subset = [6, 7, 8, 0, 1, 2]  # in an order of its own
    mixed = potential.createMixedSystem(every, force_field(every), subset, interpolate=interpolate)
    part = ase.Atoms("OHHOHH", positions[subset])
    field, inner, model = (
        asked(force_field(every), positions),
        asked(force_field(waters(2)[0]), positions[subset]),
        said(part, "organic-xtb"),
    )
    forces = field[1].copy()
    forces[subset] += model[1] - inner[1]
    found = asked(openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(mixed)), positions)
    assert found[0] == pytest.approx(field[0] - inner[0] + model[0], abs=1e-7)
    np.testing.assert_allclose(found[1], forces, atol=1e-7)


def test_a_bond_that_is_cut_is_capped(potential):
    """Of ethane, a methyl group with the hydrogen that OpenMM-ML sets in place of the other one."""
    atoms = molecule("C2H6")
    system, found = system_of(atoms)
    every = list(found.atoms())
    for i, j in [(0, 1), (0, 2), (0, 3), (0, 4), (1, 5), (1, 6), (1, 7)]:
        found.addBond(every[i], every[j])
    mixed = potential.createMixedSystem(found, system, [0, 2, 3, 4])
    run = context(mixed, np.vstack([atoms.positions, np.zeros(3)]))
    run.computeVirtualSites()
    where = run.getState(positions=True).getPositions(asNumpy=True)._value * 10
    capped = ase.Atoms("CH4", where[[0, 2, 3, 4, 8]])
    energy = run.getState(energy=True).getPotentialEnergy()._value * KJ
    assert energy == pytest.approx(said(capped, "organic-xtb")[0], abs=1e-9)


def test_a_molecule_across_the_box_is_whole(potential):
    """OpenMM wraps each atom of a subset that has no bonds."""
    every, positions = waters(1)
    every.setPeriodicBoxVectors(np.eye(3) * 3 * unit.nanometer)
    system = potential.createSystem(every)
    across = positions - positions[0] + [29.9, 0.05, 0.0]
    wanted = said(ase.Atoms("OHH", positions), "organic-xtb")
    for where in (across, across % 30):
        found = asked(system, where)
        assert found[0] == pytest.approx(wanted[0], abs=1e-9)
        np.testing.assert_allclose(found[1], wanted[1], atol=1e-9)


def test_what_is_wrong_is_told_in_a_line(potential, tmp_path):
    atoms, (every, _) = ethanol(), waters(2)
    system, found = system_of(atoms)
    for chosen, message in (([3, 9], "there is no atom 9; the system has atoms 0 to 8"), ([0, -1], "no atom -1")):
        with pytest.raises(ValueError, match=message):
            add_potential(system, found, "organic-xtb", chosen)
    for chosen, message in (([0, 2, 0], "atom 0 is given twice"), ([], "the subset is empty")):
        with pytest.raises(ValueError, match=message):
            add_potential(system, found, "organic-xtb", chosen)
    with pytest.raises(ValueError, match="does not know W"):
        add_potential(*system_of(tungsten()), "organic-xtb")
    with pytest.raises(ValueError, match="odd number of electrons"):
        add_potential(system, found, "organic-xtb", [0, 1, 2, 3])
    with pytest.raises(ValueError, match="the topology has 6 atoms, the system 9 particles"):
        add_potential(system, every, "organic-xtb")
    with pytest.raises(ValueError, match="unknown model 'nothing'"):
        add_potential(system, found, "nothing")
    with pytest.raises(ValueError, match="still acts among the atoms"):
        add_potential(force_field(every), every, "organic-xtb")
    with pytest.raises(ValueError, match="unknown option precision"):
        potential.createSystem(every, precision="double")
    assert system.getNumForces() == 0
    atoms.pbc = True, True, False
    with pytest.raises(ValueError, match="periodic along all three axes or none"):
        system_of(atoms)
    ion = openmm.System()
    charges = openmm.NonbondedForce()
    for charge in (-0.8, -0.1, -0.1):
        ion.addParticle(1)
        charges.addParticle(charge, 1, 0)
    charges.addException(0, 1, 0, 1, 0), charges.addException(0, 2, 0, 1, 0), charges.addException(1, 2, 0, 1, 0)
    ion.addForce(charges)
    with pytest.raises(ValueError, match="total charge is -1"):
        add_potential(ion, waters(1)[0], "organic-xtb")
    boxed = waters(2)[0]
    boxed.setPeriodicBoxVectors(np.eye(3) * unit.nanometer)
    with pytest.raises(ValueError, match="the topology has a box, the NonbondedForce is not periodic"):
        add_potential(force_field(every), boxed, "organic-xtb")


def test_a_run_stops_where_the_model_has_no_answer(tmp_path):
    atoms = ethanol()
    system, topology = system_of(atoms)
    add_potential(system, topology, "organic-xtb")
    with pytest.raises(openmm.OpenMMException, match="do atoms overlap"):
        asked(system, 0 * atoms.positions)


def test_a_model_that_was_changed_is_refused(tmp_path):
    from atomsml.modelfile import find_model

    atoms, file = ethanol(), tmp_path / "model.safetensors"
    file.write_bytes(find_model("organic-xtb").read_bytes())
    system, topology = system_of(atoms)
    add_potential(system, topology, file)
    kept = openmm.XmlSerializer.serialize(system)
    file.write_bytes(find_model("refractory-pbe").read_bytes())
    with pytest.raises(openmm.OpenMMException, match="is not the one that this force was made with"):
        asked(openmm.XmlSerializer.deserialize(kept), atoms.positions)
