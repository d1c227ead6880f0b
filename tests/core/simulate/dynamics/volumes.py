"""Systems whose volumes are distributed as is known, at 60 K and 0.05 GPa."""

from dataclasses import dataclass

import ase
import numpy as np
import torch
from ase.build import bulk
from scipy import stats

from atomsml.geometry import volume
from atomsml.simulate.state import State
from atomsml.testing.model_potentials import HarmonicCrystal, IdealGas
from atomsml.units import GPA, KB

TEMPERATURE = 60.0  # K
PRESSURE = 0.05  # GPa
KT = KB * TEMPERATURE
CRYSTAL = bulk("Ar", cubic=True, a=5.3)
HARMONIC = HarmonicCrystal(torch.from_numpy(CRYSTAL.get_scaled_positions()), 0.2, 0.02, CRYSTAL.get_volume())
GAS = ase.Atoms("Ar5", cell=np.eye(3) * 10, pbc=True)
GAS_VOLUMES = stats.gamma(len(GAS) + 1, scale=KT / (PRESSURE * GPA))  # V^N exp(-P V / kT)


@dataclass(frozen=True)
class Tabulated:
    """A distribution by its density on a grid."""

    places: np.ndarray
    cumulative: np.ndarray

    @staticmethod
    def of(places, log_density):
        weights = np.exp(log_density - log_density.max())
        cumulative = np.concatenate([[0], np.cumsum((weights[1:] + weights[:-1]) / 2)])
        return Tabulated(places, cumulative / cumulative[-1])

    def cdf(self, values):
        return np.interp(values, self.places, self.cumulative)

    def rvs(self, number, random_state):
        return np.interp(random_state.random(number), self.cumulative, self.places)


def harmonic_volumes():
    v = np.linspace(0.3, 2, 20000) * HARMONIC.size
    elastic = 0.5 * HARMONIC.bulk_modulus * HARMONIC.size * (v / HARMONIC.size - 1) ** 2
    return Tabulated.of(v, np.log(v) - (PRESSURE * GPA * v + elastic) / KT)


CRYSTAL_VOLUMES = harmonic_volumes()
CASES = {"gas": (GAS, IdealGas(), GAS_VOLUMES), "crystal": (CRYSTAL, HARMONIC, CRYSTAL_VOLUMES)}


def systems_of(atoms, sizes, rng):
    """A state of systems with these volumes, whose atoms are anywhere, or at their sites within what is thermal."""
    state = State.of([atoms] * len(sizes))
    growth = torch.from_numpy(np.cbrt(sizes / volume(state.cell).numpy()))
    state.cell = state.cell * growth[:, None, None]
    if atoms is GAS:
        scaled = torch.from_numpy(rng.random((state.num_atoms, 1, 3)))
        state.positions = torch.bmm(scaled, state.cell[state.batch])[:, 0]
    else:
        state.positions = state.positions * growth[state.batch, None]
        width = np.sqrt(KT / HARMONIC.stiffness)
        state.positions = state.positions + torch.from_numpy(rng.normal(size=(state.num_atoms, 3), scale=width))
    width = np.sqrt(KT / state.masses.numpy())[:, None]
    state.velocities = state.moving(torch.from_numpy(rng.standard_normal((state.num_atoms, 3)) * width))
    return state


def chi_square(samples, distribution, bins=20):
    """The probability that the samples come from the distribution, by Pearson's test in bins of equal probability."""
    counts, _ = np.histogram(distribution.cdf(samples), bins=bins, range=(0, 1))
    return stats.chisquare(counts).pvalue
