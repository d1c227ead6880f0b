"""Constant pressure: density of liquid argon beside ASE's barostat, diffusion, and an equation of state.

    python -m benchmarks.engine.npt density [--steps 20000]
    python -m benchmarks.engine.npt diffusion --steps 10000
    python -m benchmarks.engine.npt equation-of-state --steps 3000

One thread; density takes about five minutes of one core, diffusion two, the equation of state one.
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
from scipy.optimize import brentq

from atomsml import AtomsMLCalculator
from atomsml.simulate.analysis.msd import diffusion as einstein
from atomsml.simulate.dynamics.csvr import CSVR
from atomsml.simulate.dynamics.langevin import Langevin
from atomsml.simulate.dynamics.mtk import MTK
from atomsml.simulate.md import md
from atomsml.simulate.model import Model
from atomsml.testing.model_potentials import AskingCalculator, LennardJones
from atomsml.units import FS, GPA, KB

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


def diffusion(steps: int) -> None:
    """Of 500 atoms at the density 0.8442 sigma^-3 and the temperature 0.722 epsilon / kB, in reduced units.

    A periodic box slows diffusion down by 2.837 kT / (6 pi eta L) (Yeh and Hummer, J. Phys. Chem. B 108, 15873 (2004));
    the viscosity eta is about 3.3 in reduced units there.
    """
    density, reduced = 0.8442, 0.722
    temperature = reduced * ARGON.epsilon / KB
    atoms = liquid(5, density, temperature)
    run = md([atoms], Model(ARGON, ARGON.cutoff), CSVR(2 * TIMESTEP, temperature, 1000.0), steps, every=10)
    frames = [(frame.state.positions.numpy(), frame.temperature.item()) for frame in run]
    d, error, power = einstein(np.stack([positions for positions, _ in frames]), 20 * TIMESTEP)
    unit = ARGON.sigma * np.sqrt(ARGON.epsilon / atoms.get_masses()[0]) * FS * 1000  # A^2 / ps
    correction = 2.837 * reduced / (6 * np.pi * 3.3 * (len(atoms) / density) ** (1 / 3))
    measured = np.mean([kelvin for _, kelvin in frames]) * KB / ARGON.epsilon
    print(f"{steps} steps of {2 * TIMESTEP} fs at T* = {measured:.3f}: the displacement grows as time^{power:.2f},")
    print(f"D* = {d / unit:.4f} +- {error / unit:.4f} in the box, {d / unit + correction:.4f} in an infinite one")


def equation_of_state(steps: int) -> None:
    """Of 54 atoms of tungsten by refractory-pbe, at five pressures in one batch, beside the crystal at rest.

    At low temperature a classical crystal grows in proportion to kT: from its volumes at 25 and 50 K follows that at
    0 K, which must be that of the atoms at rest.
    """
    calculator = AtomsMLCalculator("refractory-pbe", precision="float64")
    crystal = bulk("W", cubic=True) * (3, 3, 3)
    pressures = [-5.0, 0.0, 10.0, 20.0, 30.0]  # GPa
    rests = [crystal_at_rest(crystal, calculator, pressure) for pressure in pressures]
    start = [crystal.copy() for _ in rests]
    for atoms, size in zip(start, rests, strict=True):
        atoms.set_cell(np.cbrt(size / atoms.get_volume()) * atoms.cell.array, scale_atoms=True)
    found = []
    for temperature in (25.0, 50.0):
        barostat = MTK(TIMESTEP, temperature, pressures, thermostat_time=200.0, barostat_time=2000.0)
        run = md(start, Model.of(calculator), barostat, steps, every=10, temperature=temperature)
        series = np.array([frame.volume.tolist() for frame in run])
        found.append(np.array([mean_and_error(one) for one in series[len(series) // 5 :].T]))
    (cold, cold_error), (warm, warm_error) = (x.T for x in found)
    zero, error = 2 * cold - warm, np.hypot(2 * cold_error, warm_error)
    print("pressure GPa; volume per atom A^3: at rest, 25 K, 50 K, from both at 0 K; its difference from that at rest")
    for row in zip(pressures, rests, cold, warm, zero, error, strict=True):
        pressure, *volumes, error_here = row
        parts = " ".join(f"{x / len(crystal):.4f}" for x in volumes)
        difference, spread = 100 * (volumes[-1] / volumes[0] - 1), 100 * error_here / volumes[0]
        print(f"{pressure:5.1f}  {parts}  {difference:+.3f} +- {spread:.3f} %")


def crystal_at_rest(crystal: ase.Atoms, calculator: AtomsMLCalculator, pressure: float) -> float:
    """A^3: the volume at which a crystal, whose atoms stay where symmetry holds them, has a pressure, GPa."""
    atoms = crystal.copy()
    atoms.calc = calculator

    def surplus(size: float) -> float:
        atoms.set_cell(np.cbrt(size / crystal.get_volume()) * crystal.cell.array, scale_atoms=True)
        return float(-atoms.get_stress()[:3].mean() / GPA - pressure)

    return float(brentq(surplus, 0.8 * crystal.get_volume(), 1.1 * crystal.get_volume(), xtol=1e-6))


WHAT = {"density": density, "diffusion": diffusion, "equation-of-state": equation_of_state}

if __name__ == "__main__":
    main()
