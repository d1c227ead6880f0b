"""Energy conservation of an embedded model: NVE of a 20-atom molecule at 300 K for 10 ps, with two time steps.

    python -m benchmarks.accuracy.nve_drift [organic-xtb] [--picoseconds 10]

The molecule (phenethylamine, C8H11N) is relaxed first, then started
with twice the kinetic energy of 300 K, half of which becomes potential energy. Drift is the slope of a straight line
through the total energy; the fluctuation is its standard deviation around that line, which velocity Verlet makes
proportional to the square of the time step.
"""

from __future__ import annotations

import argparse

import numpy as np

from atomsml import AtomsMLCalculator
from atomsml.io import atoms_from_smiles
from atomsml.simulate.dynamics.nve import NVE
from atomsml.simulate.md import md
from atomsml.simulate.model import Model
from atomsml.simulate.relax import RelaxSettings, relax

SMILES = "NCCc1ccccc1"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="organic-xtb")
    parser.add_argument("--picoseconds", type=float, default=10.0)
    parser.add_argument("--timesteps", type=float, nargs="+", default=[0.5, 0.25], help="fs")
    arguments = parser.parse_args()
    start = atoms_from_smiles(SMILES)
    start.calc = AtomsMLCalculator(arguments.model)
    relax(start, RelaxSettings(fmax=0.01))
    print(f"{start.get_chemical_formula()}, {len(start)} atoms, {arguments.picoseconds} ps at 300 K, {arguments.model}")
    for timestep in arguments.timesteps:
        steps = round(1000 * arguments.picoseconds / timestep)
        found = [
            (frame.conserved.item(), frame.temperature.item())
            for frame in md([start], Model.of(start.calc), NVE(timestep), steps, temperature=600.0)
        ]
        energy, temperatures = np.array(found).T
        time = timestep / 1000 * np.arange(len(energy))  # ps
        energy = 1000 * energy / len(start)  # meV/atom
        slope, offset = np.polyfit(time, energy, 1)
        residual = energy - (slope * time + offset)
        print(
            f"{timestep} fs: drift over the run {slope * time[-1]:+.4f} meV/atom, "
            f"fluctuation {residual.std():.4f} meV/atom, mean temperature {temperatures.mean():.0f} K"
        )


if __name__ == "__main__":
    main()
