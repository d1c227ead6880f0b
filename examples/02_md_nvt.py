"""Molecular dynamics at constant temperature, with a trajectory and a plot.

    python examples/02_md_nvt.py "CC(=O)Nc1ccc(O)cc1" --temperature 300 --steps 2000

Any integrator of ASE runs on the calculator; this is its Langevin thermostat.
"""

import argparse

import matplotlib.pyplot as plt
import numpy as np
from ase import units
from ase.io.trajectory import Trajectory
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary
from ase.optimize import LBFGS

from atomsml import AtomsMLCalculator
from atomsml.io import atoms_from_smiles

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("smiles", nargs="?", default="CC(=O)Nc1ccc(O)cc1", help="default: paracetamol")
parser.add_argument("--model", default="organic-xtb", help="an embedded name or a file")
parser.add_argument("--temperature", type=float, default=300.0, help="K")
parser.add_argument("--timestep", type=float, default=0.5, help="fs")
parser.add_argument("--steps", type=int, default=2000)
parser.add_argument("--seed", type=int, default=0)
options = parser.parse_args()

atoms = atoms_from_smiles(options.smiles, seed=options.seed)
atoms.calc = AtomsMLCalculator(options.model)
LBFGS(atoms, logfile=None).run(fmax=0.05, steps=200)

rng = np.random.default_rng(options.seed)
MaxwellBoltzmannDistribution(atoms, temperature_K=options.temperature, rng=rng)
Stationary(atoms)  # no drift of the centre of mass
dynamics = Langevin(
    atoms, options.timestep * units.fs, temperature_K=options.temperature, friction=0.02 / units.fs, rng=rng
)
dynamics.attach(Trajectory("md.traj", "w", atoms).write, interval=10)

rows = []
for _ in dynamics.irun(options.steps):
    rows.append((dynamics.nsteps * options.timestep, atoms.get_potential_energy(), atoms.get_temperature()))
time, energy, temperature = np.array(rows).T  # fs, eV, K

figure, (top, bottom) = plt.subplots(2, sharex=True, layout="constrained")
top.plot(time, energy)
top.set_ylabel("potential energy (eV)")
bottom.plot(time, temperature)
bottom.axhline(options.temperature, color="black", linestyle="--")
bottom.set(xlabel="time (fs)", ylabel="temperature (K)")
figure.savefig("md.png", dpi=150)

print(f"{atoms.get_chemical_formula()}: {options.steps} steps of {options.timestep} fs")
print(f"potential energy  {energy.mean():12.3f} +- {energy.std():.3f} eV")
print(f"temperature       {temperature.mean():12.1f} +- {temperature.std():.1f} K")
print("wrote md.traj and md.png")
