"""Thermostats against the equations that they integrate, on atoms that nothing else pushes."""

from __future__ import annotations

from typing import Any, ClassVar

import ase
import numpy as np
import pytest
from ase import units
from ase.calculators.calculator import Calculator, all_changes

from atomsml.simulate.md import MDSettings, iterate_md

TEMPERATURE = 300.0  # K


class Free(Calculator):
    """No forces."""

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces"]

    def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": 0.0, "free_energy": 0.0, "forces": np.zeros((len(self.atoms), 3))}


def _momenta(settings: MDSettings) -> tuple[np.ndarray, np.ndarray]:
    """Times (frames,) in fs, and momenta (frames, elements, coordinates) of 1000 H and 1000 Ar over sqrt(m kB T)."""
    atoms = ase.Atoms("H1000Ar1000", positions=np.zeros((2000, 3)))
    atoms.calc = Free()
    width = np.sqrt(atoms.get_masses() * units.kB * TEMPERATURE)[:, None]
    times, momenta = [], []
    for state in iterate_md(atoms, settings, np.random.default_rng(0)):
        times.append(state.time)
        momenta.append((atoms.get_momenta() / width).reshape(2, 3000))
    return np.array(times), np.array(momenta)


@pytest.mark.parametrize(("thermostat_time", "timestep"), [(20.0, 1.0), (50.0, 2.0)])
def test_langevin_forgets_momenta_as_its_equation_says(thermostat_time: float, timestep: float) -> None:
    """<p(0) p(t)> = m kB T exp(-t / tau), at any mass; 3000 products scatter by sqrt((1 + exp(-2 t / tau)) / 3000)."""
    steps = round(2 * thermostat_time / timestep)
    times, momenta = _momenta(MDSettings("nvt", TEMPERATURE, timestep, steps, thermostat_time))
    assert times[-1] == pytest.approx(2 * thermostat_time)
    correlation = (momenta[0] * momenta).mean(axis=-1)  # (frames, elements)
    expected = np.exp(-times / thermostat_time)
    error = np.sqrt((1 + expected**2) / 3000)
    assert (np.abs(correlation - expected[:, None]) < 5 * error[:, None]).all()
    # the stationary distribution: variances of 1, with a relative error of sqrt(2 / 3000)
    np.testing.assert_allclose(momenta[-1].var(axis=-1), 1.0, atol=5 * np.sqrt(2 / 3000))
