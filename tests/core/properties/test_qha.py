"""The quasi-harmonic approximation beside phonopy's, of the same energies and phonons, and by hand for one crystal."""

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from phonopy import PhonopyQHA
from scipy import constants
from scipy.optimize import minimize_scalar

from atomsml import AtomsMLCalculator
from atomsml.properties.engine import Engine
from atomsml.properties.eos import birch_murnaghan
from atomsml.properties.phonons.harmonic import PhononSettings
from atomsml.properties.phonons.modes import Thermal
from atomsml.properties.qha import QhaSettings, QuasiHarmonic, follow, quasi_harmonic
from atomsml.properties.task import Failure, Start
from atomsml.units import GPA, KJ_PER_MOL

JOULE = KJ_PER_MOL / 1000  # per mole, of 1 eV/K
KB = constants.k / constants.e


@pytest.fixture(scope="module")
def copper() -> QuasiHarmonic:
    settings = QhaSettings(PhononSettings(supercell=(3, 3, 3), mesh=20, t_max=500))
    [(_, found)] = quasi_harmonic([bulk("Cu")], Engine.of_ase(EMT()), settings)
    return found


def test_of_a_metal_as_phonopy(copper):
    found = copper
    vibrations = found.vibrations
    theirs = PhonopyQHA(
        volumes=found.volumes,
        electronic_energies=found.energies,
        temperatures=vibrations[0].temperatures,
        free_energy=np.array([each.free_energy for each in vibrations]).T / KJ_PER_MOL,
        cv=np.array([each.heat_capacity for each in vibrations]).T / JOULE,
        entropy=np.array([each.entropy for each in vibrations]).T / JOULE,
        eos="birch_murnaghan",
        t_max=500,
    )
    assert found.temperatures[-1] == 500
    count = len(found.temperatures)
    assert found.volume == pytest.approx(theirs.volume_temperature[:count], rel=1e-6)
    assert found.gibbs == pytest.approx(theirs.gibbs_temperature[:count], abs=1e-6)
    assert found.bulk_modulus == pytest.approx(theirs.bulk_modulus_temperature[:count], rel=1e-4)
    assert found.expansion == pytest.approx(theirs.thermal_expansion[:count], rel=1e-3, abs=1e-9)
    # theirs are second derivatives by the temperature, or of a polynomial in it, and rough where it is cold
    capacity = found.heat_capacity / JOULE
    assert capacity[10:-1] == pytest.approx(theirs.heat_capacity_P_numerical[10 : count - 1], rel=1e-3)
    assert capacity[10:] == pytest.approx(theirs.heat_capacity_P_polyfit[10:count], rel=3e-3)


def test_expansion_is_how_entropy_grows_with_the_volume(copper):
    """alpha B = (dS/dV)_T, by a relation of Maxwell; entropies are not asked for alpha."""
    for i in (10, 30, 50):
        entropies = [each.entropy[i] for each in copper.vibrations]
        slope = np.polyder(np.poly1d(np.polyfit(copper.volumes, entropies, 3)))(copper.volume[i])
        assert copper.expansion[i] * copper.bulk_modulus[i] * GPA == pytest.approx(slope, rel=0.01)
    assert copper.expansion[0] == copper.heat_capacity[0] == 0


def einstein(volumes, temperatures, modes, gamma, quantum):
    """Of oscillators whose quantum (eV) is `quantum` at 10 A^3 and falls as V^-gamma."""
    found = []
    for volume in volumes:
        e = quantum * (volume / 10) ** -gamma
        x = e / (KB * np.maximum(temperatures, 1e-3))
        n = np.exp(-x) / -np.expm1(-x)
        free = modes * (e / 2 + KB * temperatures * np.log1p(-np.exp(-x)))
        energy = modes * e * (n + 0.5)
        entropy = np.where(temperatures > 0, (energy - free) / np.maximum(temperatures, 1e-3), 0)
        found.append(Thermal(temperatures, free, entropy, modes * KB * x**2 * n * (n + 1), modes * e / 2))
    return found


def test_einsteins_crystal():
    """Whose Grueneisen parameter is known, and whose free energy a minimiser follows without any fit."""
    volumes, temperatures = np.linspace(9.6, 11.2, 9), np.arange(0, 611.0, 10)
    energies = birch_murnaghan(volumes, -3.0, 10.0, 100 * GPA, 4.5)
    vibrations = einstein(volumes, temperatures, 3, 1.8, 0.025)
    found = follow(bulk("Cu"), volumes, energies, vibrations, "birch-murnaghan")
    assert found.grueneisen[10:] == pytest.approx(1.8, rel=0.01)
    for i in (0, 15, 30, 60):
        t = temperatures[i : i + 1]

        def free(volume, t=t):
            [vibration] = einstein([volume], t, 3, 1.8, 0.025)
            [energy] = birch_murnaghan(np.array([volume]), -3.0, 10.0, 100 * GPA, 4.5)
            return energy + vibration.free_energy[0]

        best = minimize_scalar(free, bounds=(9.7, 11.1), method="bounded", options={"xatol": 1e-7})
        assert found.volume[i] == pytest.approx(best.x, rel=2e-5)
        assert found.gibbs[i] == pytest.approx(best.fun, abs=1e-6)


def test_temperatures_end_with_the_volumes():
    volumes, temperatures = np.linspace(9.6, 10.4, 9), np.arange(0, 1011.0, 10)
    energies = birch_murnaghan(volumes, -3.0, 10.0, 60 * GPA, 4.5)
    found = follow(bulk("Cu"), volumes, energies, einstein(volumes, temperatures, 3, 2.5, 0.02))
    assert 100 < found.temperatures[-1] < 900
    assert len(found.volume) == len(found.heat_capacity) == len(found.grueneisen) == len(found.temperatures)
    assert found.volume[-1] < volumes[-1]
    with pytest.raises(ValueError, match="no minimum among the volumes"):
        follow(bulk("Cu"), volumes, 3 * energies[::-1].cumsum(), einstein(volumes, temperatures, 3, 2.5, 0.02))


def test_of_several_crystals_and_any_cell():
    """A conventional cell has the expansion of the primitive one, and twice the volume."""
    settings = QhaSettings(PhononSettings(length=6.0, mesh=20, t_max=300, t_step=50), volumes=5)
    engine = Engine.of(AtomsMLCalculator("refractory-pbe"))
    found = dict(quasi_harmonic([bulk("W"), bulk("W", cubic=True)], engine, settings))
    assert found[1].volume == pytest.approx(2 * found[0].volume, rel=1e-4)
    assert found[1].gibbs == pytest.approx(2 * found[0].gibbs, rel=1e-5)
    assert found[1].expansion[-1] == pytest.approx(found[0].expansion[-1], rel=0.02)
    assert found[1].heat_capacity == pytest.approx(2 * found[0].heat_capacity, rel=1e-3)


def test_imaginary_modes_leave_no_free_energy():
    settings = QhaSettings(PhononSettings(supercell=(2, 2, 2), mesh=20, t_max=100), volumes=5)
    [(_, found)] = quasi_harmonic([bulk("Cu", "bcc", a=2.87)], Engine.of_ase(EMT()), settings)
    assert isinstance(found, Failure)
    assert "at 0.960 of its volume" in found.reason
    assert "imaginary" in found.reason


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"form": "murnaghan"}, "unknown form 'murnaghan'"),
        ({"volumes": 4}, "at least 5 volumes, got 4"),
        ({"low": 1.01}, "from below 1 to above 1"),
        ({"high": 2.0}, "from below 1 to above 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        QhaSettings(**settings)


def test_a_molecule_is_refused():
    with pytest.raises(ValueError, match="periodic along all three axes"):
        list(quasi_harmonic([molecule("H2O")], Engine.of_ase(EMT()), start=Start()))
