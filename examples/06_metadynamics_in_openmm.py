"""Free energy of two water molecules along their distance: metadynamics in OpenMM, with a wall.

    python examples/06_metadynamics_in_openmm.py --steps 200000

The wall is a restraint that keeps the molecules from parting for good; the bias fills the well in which they stick
together. Results go to free_energy.csv and free_energy.png. It needs `pip install "atomsml[openmm]"`.
"""

import argparse

import matplotlib.pyplot as plt
import numpy as np
from ase.build import molecule
from openmm import CustomBondForce, LangevinMiddleIntegrator, unit
from openmm.app import BiasVariable, Metadynamics, Simulation

from atomsml.interfaces.openmm import add_potential, system_of

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--model", default="organic-xtb", help="an embedded name or a file")
parser.add_argument("--temperature", type=float, default=300.0, help="K")
parser.add_argument("--timestep", type=float, default=0.5, help="fs")
parser.add_argument("--steps", type=int, default=200_000)
parser.add_argument("--seed", type=int, default=0)
options = parser.parse_args()

atoms = molecule("H2O")
other = molecule("H2O")
other.translate([0.0, 0.0, 2.95])
atoms += other  # oxygen atoms are 0 and 3

system, topology = system_of(atoms)
add_potential(system, topology, options.model)

wall = CustomBondForce("step(r - 0.6) * 5000 * (r - 0.6)^2")  # nm, kJ/mol
wall.addBond(0, 3)
system.addForce(wall)

distance = CustomBondForce("r")
distance.addBond(0, 3)
variable = BiasVariable(distance, minValue=0.2, maxValue=0.7, biasWidth=0.02, gridWidth=101)
bias = Metadynamics(system, [variable], options.temperature, biasFactor=6.0, height=0.5, frequency=100)

integrator = LangevinMiddleIntegrator(options.temperature, 1 / unit.picosecond, options.timestep * unit.femtosecond)
integrator.setRandomNumberSeed(options.seed)
simulation = Simulation(topology, system, integrator)
simulation.context.setPositions(atoms.positions / 10)
simulation.context.setVelocitiesToTemperature(options.temperature, options.seed)
bias.step(simulation, options.steps)

r = np.linspace(0.2, 0.7, 101)
# of the distance alone, without the room that grows with its square
free = bias.getFreeEnergy().value_in_unit(unit.kilojoule_per_mole)
free += 2 * 8.314463e-3 * options.temperature * np.log(r)
within = (r > 0.24) & (r < 0.6)
free -= free[within & (r > 0.55)].mean()
well = np.argmin(np.where(within, free, np.inf))
np.savetxt("free_energy.csv", np.transpose([r, free])[within], "%.4f", ",", header="nm,kJ/mol", comments="")

figure, axes = plt.subplots(layout="constrained")
axes.plot(r[within], free[within])
axes.set(xlabel="distance of the oxygen atoms (nm)", ylabel="free energy (kJ/mol)")
figure.savefig("free_energy.png", dpi=150)

print(f"two water molecules, {options.steps} steps of {options.timestep} fs at {options.temperature} K")
print(f"distance at the minimum  {r[well]:8.3f} nm")
print(f"depth of the well        {-free[well]:8.2f} kJ/mol")
