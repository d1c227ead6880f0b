"""Water with quantum nuclei: path-integral molecular dynamics in i-PI, all beads as one batch, beside classical nuclei.

    python examples/07_path_integrals_in_ipi.py --beads 32 --steps 4000

Prints kinetic energies, and means and widths of the lengths of the O-H bonds; their distribution goes to bonds.png. It
needs `pip install "atomsml[ipi]"`.
"""

import argparse

import matplotlib.pyplot as plt
import numpy as np
from ase import units
from ase.build import molecule
from ase.io import write
from ipi.scripting import InteractiveSimulation, motion_nvt_xml, simulation_xml

from atomsml.interfaces.ipi import forcefield_xml

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--model", default="organic-xtb", help="an embedded name or a file")
parser.add_argument("--beads", type=int, default=32)
parser.add_argument("--temperature", type=float, default=300.0, help="K")
parser.add_argument("--timestep", type=float, default=0.25, help="fs")
parser.add_argument("--steps", type=int, default=4000, help="after a quarter as many to reach equilibrium")
options = parser.parse_args()

atoms = molecule("H2O")
write("template.xyz", atoms)  # which elements the atoms have; without periodic axes the cell of i-PI is ignored
atoms.cell = np.eye(3) * 20.0
output = "<output prefix='water'><properties stride='1000' filename='out'> [step, conserved] </properties></output>"
figure, axes = plt.subplots(layout="constrained")

for name, beads in (("classical", 1), ("quantum", options.beads)):
    forces = forcefield_xml(options.model, "template.xyz", beads)
    motion = motion_nvt_xml(options.timestep * units.fs, "pile_l", path_integrals=True, tau=100 * units.fs)
    copies = [atoms.copy() for _ in range(beads)]
    xml = simulation_xml(copies, forces, motion, options.temperature, output)
    simulation = InteractiveSimulation(xml)
    simulation.run(options.steps // 4)
    kinetic, bonds = [], []
    for _ in range(options.steps // 4):
        simulation.run(4)
        kinetic.append(simulation.properties("kinetic_cv"))
        found = simulation.get_structures()
        for frame in found if beads > 1 else [found]:
            bonds += [frame.get_distance(0, 1), frame.get_distance(0, 2)]
    axes.hist(bonds, bins=np.linspace(0.7, 1.3, 61), density=True, alpha=0.6, label=f"{name}, beads: {beads}")
    print(f"{name} kinetic energy  {np.mean(kinetic):8.3f} eV")
    print(f"{name} O-H bond  {np.mean(bonds):8.3f} {np.std(bonds):8.3f} A")

print(f"3/2 kT for each atom  {4.5 * units.kB * options.temperature:8.3f} eV")
axes.set(xlabel="O-H (A)", ylabel="density (1/A)")
axes.legend()
figure.savefig("bonds.png", dpi=150)
