"""What takes long: liquids and crystals under pressure."""

import ase
import numpy as np
import pytest
from ase import units
from ase.build import bulk
from ase.md.nose_hoover_chain import IsotropicMTKNPT

from atomsml.simulate.dynamics.langevin import Langevin
from atomsml.simulate.dynamics.mtk import MTK
from atomsml.simulate.dynamics.scr import SCR
from atomsml.simulate.md import md
from atomsml.simulate.model import Model
from atomsml.testing.model_potentials import AskingCalculator, LennardJones
from atomsml.units import GPA, KB

ARGON = LennardJones(onset=5.0, cutoff=7.0)
TIMES = {"thermostat_time": 200.0, "barostat_time": 1000.0}


def liquid(temperature: float) -> ase.Atoms:
    atoms = bulk("Ar", cubic=True, a=5.8) * (3, 3, 3)
    for hot in (4 * temperature, temperature):
        *_, last = md([atoms], Model(ARGON, ARGON.cutoff), Langevin(4.0, hot), 2000, every=2000, temperature=hot)
        [atoms] = last.state.write_to([atoms])
    return atoms


@pytest.mark.slow
def test_a_liquid_has_the_density_that_it_has_in_ase_after_20000_steps():
    """Volumes of 80 ps scatter by 0.4 %, of two runs by 0.3 %; barostats that lose a liquid do so within this time."""
    temperature, pressure, steps = 90.0, 0.02, 20000
    atoms = liquid(temperature)
    run = md([atoms] * 2, Model(ARGON, ARGON.cutoff), MTK(4.0, temperature, pressure, **TIMES), steps, every=20)
    ours = np.array([frame.volume.mean().item() for frame in run])
    atoms.calc = AskingCalculator(ARGON, ARGON.cutoff)
    rests = (len(atoms) - 1) / len(atoms)  # ASE heats the centre of mass as well, which rests
    times = {"tdamp": 200 * units.fs, "pdamp": 1000 * units.fs}
    dynamics = IsotropicMTKNPT(atoms, 4.0 * units.fs, rests * temperature, pressure * units.GPa, **times)
    theirs: list[float] = []
    dynamics.attach(lambda: theirs.append(atoms.get_volume()), interval=20)
    dynamics.run(steps)
    assert ours[-200:].mean() == pytest.approx(ours[200:-200].mean(), rel=0.02)
    assert ours[200:].mean() == pytest.approx(np.mean(theirs[200:]), rel=0.01)


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
