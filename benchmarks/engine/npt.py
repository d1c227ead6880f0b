"""Constant pressure: density of liquid argon beside ASE's barostat, diffusion, and an equation of state.

    python -m benchmarks.engine.npt density [--steps 20000]
    python -m benchmarks.engine.npt diffusion
    python -m benchmarks.engine.npt equation-of-state

One thread; density takes about six minutes of one core, diffusion about eight, the equation of state about three.
Argon is the Lennard-Jones potential of `atomsml.testing.model_potentials`, switched off between 2 and 2.5 sigma.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import ase
import numpy as np
import torch
from ase import units
from ase.build import bulk
from ase.md.nose_hoover_chain import IsotropicMTKNPT

from atomsml.simulate.dynamics.langevin import Langevin
from atomsml.simulate.dynamics.mtk import MTK
from atomsml.simulate.md import md
from atomsml.simulate.model import Model
from atomsml.testing.model_potentials import AskingCalculator, LennardJones

ARGON = LennardJones()
TIMESTEP = 4.0  # fs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=WHAT)
    parser.add_argument("--steps", type=int, default=20000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    WHAT[arguments.what](arguments.steps)


def liquid(repeat: int, density: float, temperature: float) -> ase.Atoms:
    """4 repeat^3 argon atoms, density in atoms per sigma^3: a crystal, molten at four times the temperature, cooled."""
    length = (4 / density) ** (1 / 3) * ARGON.sigma
    atoms = bulk("Ar", cubic=True, a=length) * (repeat, repeat, repeat)
    for hot in (4 * temperature, temperature):
        thermostat = Langevin(TIMESTEP, hot, thermostat_time=200.0)
        *_, last = md([atoms], Model(ARGON, ARGON.cutoff), thermostat, 3000, every=3000, temperature=hot)
        [atoms] = last.state.write_to([atoms])
    return atoms


def mean_and_error(values: np.ndarray, blocks: int = 10) -> tuple[float, float]:
    """Mean of a series, and its standard error from the means of blocks."""
    means = np.array([block.mean() for block in np.array_split(values, blocks)])
    return float(means.mean()), float(means.std(ddof=1) / np.sqrt(blocks))


def density(steps: int) -> None:
    """Of 256 atoms at 94 K and 10 MPa; the first fifth of each run is left out."""
    temperature, pressure = 94.0, 0.01
    atoms = liquid(4, 0.8, temperature)
    mass = atoms.get_masses().sum() / (units.kg * 1e-3) * (units.m * 1e-2) ** 3  # g / cm^3 times A^3
    times = {"thermostat_time": 200.0, "barostat_time": 1000.0}

    def ours(integrator: MTK) -> list[float]:
        run = md([atoms], Model(ARGON, ARGON.cutoff), integrator, steps, every=10)
        return [frame.volume.item() for frame in run]

    def of_ase() -> list[float]:
        copy = atoms.copy()
        copy.calc = AskingCalculator(ARGON, ARGON.cutoff)
        dynamics = IsotropicMTKNPT(
            copy, TIMESTEP * units.fs, temperature, pressure * units.GPa, tdamp=200 * units.fs, pdamp=1000 * units.fs
        )
        volumes: list[float] = []
        dynamics.attach(lambda: volumes.append(copy.get_volume()), interval=10)
        dynamics.run(steps)
        return volumes

    runs: dict[str, Callable[[], list[float]]] = {
        "ASE, IsotropicMTKNPT": of_ase,
        **{
            f"MTK, {cell}": lambda cell=cell: ours(MTK(TIMESTEP, temperature, pressure, cell=cell, **times))
            for cell in ("isotropic", "full")
        },
    }
    for name, run in runs.items():
        volumes = np.array(run())
        value, error = mean_and_error(mass / volumes[len(volumes) // 5 :])
        spread = volumes[len(volumes) // 5 :].std() / volumes.mean()
        print(
            f"{name}: density {value:.4f} +- {error:.4f} g/cm^3, volume fluctuates by {100 * spread:.2f} %", flush=True
        )


WHAT = {"density": density}

if __name__ == "__main__":
    main()
