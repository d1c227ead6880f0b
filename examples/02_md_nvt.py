"""Molecular dynamics at constant temperature, with a trajectory and a plot.

    python examples/02_md_nvt.py "CC(=O)Nc1ccc(O)cc1" --temperature 300 --steps 2000

The loop yields a frame after every step, and what is done with it stays here; results go to md.traj and md.png.
"""

import argparse

import matplotlib.pyplot as plt
import numpy as np
from ase.io.trajectory import Trajectory

from atomsml import AtomsMLCalculator
from atomsml.io import atoms_from_smiles
from atomsml.simulate.dynamics.langevin import Langevin
from atomsml.simulate.md import md
from atomsml.simulate.model import Model
from atomsml.simulate.relax import relax

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
relax(atoms)

integrator = Langevin(options.timestep, options.temperature, seed=options.seed)
model, start = Model.of(atoms.calc), {"temperature": options.temperature, "seed": options.seed}
found = []
with Trajectory("md.traj", "w") as trajectory:
    for frame in md([atoms], model, integrator, options.steps, **start):
        found.append((frame.step * options.timestep, frame.potential.item(), frame.temperature.item()))
        if frame.step % 10 == 0:
            trajectory.write(*frame.state.write_to([atoms]))

time, energy, temperature = np.array(found).T  # fs, eV, K

figure, (top, bottom) = plt.subplots(2, sharex=True, layout="constrained")
top.plot(time, energy)
top.set_ylabel("potential energy (eV)")
bottom.plot(time, temperature)
bottom.axhline(options.temperature, color="black", linestyle="--")
bottom.set(xlabel="time (fs)", ylabel="temperature (K)")
figure.savefig("md.png", dpi=150)

print(f"{atoms.get_chemical_formula()}, {options.steps} steps of {options.timestep} fs: mean and standard deviation")
print(f"potential energy  {energy.mean():12.3f} {energy.std():8.3f} eV")
print(f"temperature       {temperature.mean():12.1f} {temperature.std():8.1f} K")
