"""The melting point of argon by two-phase coexistence, beside the published triple point of the Lennard-Jones fluid.

    python -m benchmarks.properties.melting [--atoms 500] [--steps 8000]

The potential is switched off between 3.5 and 4 sigma, at no pressure: the triple pressure, 0.002 epsilon/sigma^3, moves
the melting point by less than 0.01 %. Published is kT = 0.694 epsilon (Mastny and de Pablo, J. Chem. Phys. 127, 104504
(2007)), of the whole potential. Half an hour of one core.
"""

from __future__ import annotations

import argparse
import time

import torch
from ase.build import bulk

from atomsml.properties.engine import Engine
from atomsml.properties.melting import Melting, MeltingSettings, melting_points
from atomsml.properties.task import Standing
from atomsml.simulate.model import Model
from atomsml.testing.model_potentials import LennardJones
from atomsml.units import KB

PUBLISHED = 0.694  # kT / epsilon


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--atoms", type=int, default=500)
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sigma = LennardJones.sigma
    argon = LennardJones(onset=3.5 * sigma, cutoff=4 * sigma)
    guess = 0.7 * argon.epsilon / KB
    settings = MeltingSettings(guess, 0.2, 4, arguments.rounds, arguments.atoms, arguments.steps, timestep=5.0)
    start = time.perf_counter()
    crystal = bulk("Ar", cubic=True, a=5.3)
    for _, found in melting_points([crystal], Engine(Model(argon, argon.cutoff)), settings):
        if isinstance(found, Standing):
            continue
        if not isinstance(found, Melting):
            raise SystemExit(found.reason)
        unit = argon.epsilon / KB
        print(f"grew at {found.lower:.1f} K, shrank at {found.upper:.1f} K: {found.lower / unit:.3f} to", end=" ")
        print(f"{found.upper / unit:.3f} epsilon/k, published {PUBLISHED}; {time.perf_counter() - start:.0f} s")
        for run in found.runs:
            print(f"  {run.temperature:6.1f} K {run.verdict:9s} solid {' '.join(f'{x:.2f}' for x in run.solid[::10])}")


if __name__ == "__main__":
    main()
