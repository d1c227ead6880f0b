import numpy as np
import pytest
from ase.build import bulk

from atomsml.simulate.dynamics.mtk import MTK
from atomsml.simulate.dynamics.scr import SCR
from atomsml.simulate.md import md
from atomsml.simulate.model import Model
from atomsml.testing.model_potentials import LennardJones
from atomsml.units import GPA, KB

ARGON = LennardJones(onset=5.0, cutoff=7.0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [MTK, SCR])
def test_volumes_fluctuate_by_the_compressibility(kind):
    """<dV^2> / (kT <V>) is -d ln V / dP: eight crystals at each of three pressures.

    Both sides are known to about 5 %: the fluctuation from some hundred independent volumes of each crystal.
    """
    temperature, steps, pressures = 40.0, 6000, np.repeat([0.0, 0.1, 0.2], 8)
    crystal = bulk("Ar", cubic=True, a=5.3) * (2, 2, 2)
    more = {"compressibility": 0.5} if kind is SCR else {}
    barostat = kind(5.0, temperature, pressures.tolist(), 100.0, 200.0, **more)
    run = md([crystal] * 24, Model(ARGON, ARGON.cutoff), barostat, steps, every=5, temperature=temperature)
    volumes = np.array([frame.volume.tolist() for frame in run])[200:].reshape(-1, 3, 8)
    means = volumes.mean(axis=(0, 2))
    by_pressure = -(means[2] - means[0]) / (0.2 * GPA) / means[1]
    fluctuation = (volumes[:, 1] - means[1]).var() / (KB * temperature * means[1])
    assert fluctuation == pytest.approx(by_pressure, rel=0.15)
