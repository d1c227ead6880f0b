"""What the precision of a calculator costs and brings: deviations, drift and speed of every policy, on one structure.

The reference is float64 with radial functions that are computed, not tabulated. Its run at constant energy gives the
configurations that all policies compute; then each policy has a run of its own, from the same velocities.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ase
import numpy as np
from numpy.typing import NDArray

from atomsml.interfaces.ase import AtomsMLCalculator
from atomsml.potential import Potential
from atomsml.simulate.dynamics.nve import NVE
from atomsml.simulate.md import md
from atomsml.simulate.model import Model

# (precision, exact), from precise to fast; the first is the reference
POLICIES = tuple((precision, exact) for precision in ("float64", "mixed", "float32") for exact in (True, False))
SEED = 0
CONFIGURATIONS = 10  # of the reference run, evenly spaced
ROUNDING = 1e-12  # eV/A: forces in float64 that differ by less come from the same radial functions


@dataclass(frozen=True)
class RunSettings:
    """The run at constant energy."""

    temperature: float = 300.0  # K, of the start velocities
    timestep: float = 0.5  # fs
    steps: int = 400


SETTINGS = RunSettings()


@dataclass(frozen=True)
class PolicyReport:
    """How one policy does; deviations are from the reference, over all configurations."""

    precision: str
    exact: bool  # radial functions computed, not tabulated
    device: str
    energy_max: float  # eV per atom, largest deviation
    energy_rms: float  # eV per atom, root mean square
    forces_max: float  # eV/A, of a component
    forces_rms: float
    stress_max: float | None  # eV/A^3, of a component; None without a volume
    stress_rms: float | None
    drift: float  # eV per atom and ps: slope of the total energy
    fluctuation: float  # eV per atom: root mean square distance of the total energy from that slope
    step_time: float  # s, median of an MD step, everything included

    @property
    def name(self) -> str:
        return f"{self.precision} exact" if self.exact else self.precision


@dataclass(frozen=True)
class _Run:
    configurations: list[ase.Atoms]
    total_energies: NDArray[np.float64]  # (steps + 1,) eV
    step_times: NDArray[np.float64]  # (steps,) s


@dataclass(frozen=True)
class _Values:
    """What a policy computes at the configurations."""

    energies: NDArray[np.float64]  # (configurations,) eV per atom
    forces: NDArray[np.float64]  # (configurations, atoms, 3) eV/A
    stress: NDArray[np.float64] | None  # (configurations, 6) eV/A^3


def precision_report(
    model: str | Path | Potential, atoms: ase.Atoms, device: str = "auto", settings: RunSettings = SETTINGS
) -> Iterator[PolicyReport]:
    """Yield a report of each of POLICIES, the reference first.

    A model without tables computes the same whether or not it is asked to be exact, and has one report for both.
    Constraints of `atoms` are left out.

    Raises:
        ValueError: what AtomsMLCalculator or molecular dynamics refuses.
    """
    free = atoms.copy()
    free.set_constraint()
    calculator = AtomsMLCalculator(model, device, "float64", exact=True)
    run = _dynamics(free, calculator, settings)
    right = _values(run.configurations, calculator)
    yield _report(calculator, run, right, right, settings)
    has_tables = True
    for precision, exact in POLICIES[1:]:
        calculator = AtomsMLCalculator(model, device, precision, exact=exact)
        values = _values(run.configurations, calculator)
        if precision == "float64":
            has_tables = bool(np.abs(values.forces - right.forces).max() > ROUNDING)
        if exact or has_tables:
            yield _report(calculator, _dynamics(free, calculator, settings), values, right, settings)


def _dynamics(start: ase.Atoms, calculator: AtomsMLCalculator, settings: RunSettings) -> _Run:
    configurations, energies, times = [], [], [time.perf_counter()]
    given = NVE(settings.timestep), settings.steps
    for frame in md([start], Model.of(calculator), *given, temperature=settings.temperature, seed=SEED):
        times.append(time.perf_counter())
        if frame.lost:
            raise ValueError(frame.lost[0].reason)
        energies.append(frame.conserved.item())
        if frame.step % max(1, settings.steps // CONFIGURATIONS) == 0:
            configurations += frame.state.write_to([start])
    # the first interval is that of the start, which prepares kernels and lists
    return _Run(configurations, np.array(energies), np.diff(times)[1:])


def _values(configurations: list[ase.Atoms], calculator: AtomsMLCalculator) -> _Values:
    energies, forces, stress = [], [], []
    for atoms in configurations:
        forces.append(calculator.get_property("forces", atoms))
        energies.append(calculator.results["energy"] / len(atoms))
        stress.append(calculator.results.get("stress"))
    return _Values(np.array(energies), np.array(forces), None if stress[0] is None else np.array(stress))


def _report(
    calculator: AtomsMLCalculator, run: _Run, values: _Values, right: _Values, settings: RunSettings
) -> PolicyReport:
    energies = run.total_energies / values.forces.shape[1]
    times = np.arange(len(energies)) * settings.timestep / 1000  # ps
    slope, intercept = np.polyfit(times, energies, 1)
    energy_max, energy_rms = _max_and_rms(values.energies - right.energies)
    forces_max, forces_rms = _max_and_rms(values.forces - right.forces)
    stress_max = stress_rms = None
    if values.stress is not None and right.stress is not None:
        stress_max, stress_rms = _max_and_rms(values.stress - right.stress)
    return PolicyReport(
        precision=calculator.parameters["precision"],
        exact=calculator.parameters["exact"],
        device=str(calculator.device),
        energy_max=energy_max,
        energy_rms=energy_rms,
        forces_max=forces_max,
        forces_rms=forces_rms,
        stress_max=stress_max,
        stress_rms=stress_rms,
        drift=float(slope),
        fluctuation=_max_and_rms(energies - (slope * times + intercept))[1],
        step_time=float(np.median(run.step_times)),
    )


def _max_and_rms(deviations: NDArray[np.float64]) -> tuple[float, float]:
    return float(np.abs(deviations).max()), float(np.sqrt(np.square(deviations).mean()))
