"""A liquid under every thermostat: one ensemble."""

import numpy as np
import pytest
from ase.build import bulk
from scipy import stats

from atomsml.simulate.dynamics import INTEGRATORS
from atomsml.simulate.md import md
from atomsml.simulate.model import Model
from atomsml.testing.model_potentials import LennardJones
from atomsml.units import KB

TEMPERATURE = 110.0  # K
THERMOSTATS = [name for name, each in INTEGRATORS.items() if each.ensemble == "nvt"]


def liquid_argon(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Potential, kinetic and conserved energies (frames, systems) over 50 ps, after 10 ps, of 4 systems of 32 atoms."""
    start = [bulk("Ar", "fcc", 5.7, cubic=True) * (2, 2, 2)] * 4
    integrator = INTEGRATORS[name].kind(5.0, TEMPERATURE, 200.0)
    model = Model(LennardJones(onset=4.5, cutoff=5.5), 5.5)
    frames = md(start, model, integrator, 12000, every=20, temperature=2 * TEMPERATURE)
    found = [(f.potential.numpy(), f.kinetic.numpy(), f.conserved.numpy()) for f in frames if f.step >= 2000]
    potential, kinetic, conserved = (np.array(each) for each in zip(*found, strict=True))
    return potential, kinetic, conserved


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """By blocks of 5 ps of each system, longer than anything is remembered."""
    blocks = np.array([part.mean(axis=0) for part in np.array_split(values, 10)]).ravel()
    return float(blocks.mean()), float(blocks.std(ddof=1) / np.sqrt(len(blocks)))


@pytest.mark.slow
def test_all_thermostats_sample_one_ensemble():
    means = {}
    for name in THERMOSTATS:
        potential, kinetic, conserved = liquid_argon(name)
        # 31 atoms' worth of degrees of freedom; frames 1 ps apart, five thermostat times
        apart = kinetic[::10].ravel() / (KB * TEMPERATURE)
        edges = stats.gamma(93 / 2).ppf(np.linspace(0, 1, 11))
        counts, _ = np.histogram(apart, edges)
        assert stats.chisquare(counts).pvalue > 1e-3, (name, counts)
        mean, error = mean_and_error(kinetic / (KB * TEMPERATURE))
        assert mean == pytest.approx(93 / 2, abs=4 * error)
        means[name] = mean_and_error(potential)
        # what is conserved walks by less than a thousandth of the heat that is exchanged, of order 1 eV
        assert np.abs(conserved - conserved[0]).max() < 2e-2
        print(name, means[name], mean, error, np.abs(conserved - conserved[0]).max(), np.ptp(conserved, axis=0))
    values, errors = np.array(list(means.values())).T
    average = (values / errors**2).sum() / (1 / errors**2).sum()
    assert (np.abs(values - average) < 4 * errors).all()
