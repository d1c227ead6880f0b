"""The quasi-harmonic approximation: what a crystal does with temperature, because its phonons depend on its volume.

At each temperature the free energy F(V, T) = E(V) + F_vib(V, T) is fitted as an equation of state is. Its minimum gives

    V(T),   G(T),   B(T),   alpha = dV/dT / V,   C_p = C_V + alpha^2 B V T,   gamma = alpha B V / C_V

at zero pressure (Wallace, Thermodynamics of Crystals (1972)). Each volume has its own relaxed shape and positions, at
the minimum of the energy, not of the free energy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import ase
import numpy as np
from numpy.typing import NDArray

from atomsml.properties.engine import Engine
from atomsml.properties.eos import FORMS, fit
from atomsml.properties.phonons import modes
from atomsml.properties.phonons.force_constants import Displaced, repeated
from atomsml.properties.phonons.harmonic import TOLERANCE, PhononSettings, check
from atomsml.properties.phonons.supercell import Integers
from atomsml.properties.task import Failure, Start, Task, measure
from atomsml.simulate.relax import RelaxSettings
from atomsml.units import GPA

Array = NDArray[np.float64]

DEGREE = 3  # of the polynomial by which heat capacities depend on the volume


@dataclass(frozen=True)
class QhaSettings:
    """Which volumes, which form, and how phonons are found at each.

    Raises:
        ValueError: an unknown form, fewer than five volumes, volumes that do not enclose the minimum.
    """

    phonons: PhononSettings = field(default_factory=PhononSettings)
    form: str = "birch-murnaghan"  # a key of FORMS
    volumes: int = 9  # how many
    low: float = 0.96  # of the volume of the minimum
    high: float = 1.08

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise ValueError(f"unknown form {self.form!r}; there are {', '.join(FORMS)}")
        if self.volumes < 5:
            raise ValueError(f"a fit of four numbers needs at least 5 volumes, got {self.volumes}")
        if not 0.5 < self.low < 1 < self.high < 1.5:
            raise ValueError(f"volumes go from below 1 to above 1 of the minimum's, got {self.low} and {self.high}")


@dataclass(frozen=True, eq=False)
class QuasiHarmonic:
    """Of one crystal at zero pressure; all of the structure as it was given.

    Temperatures end where the volume would leave those that were computed, if it does.
    """

    atoms: ase.Atoms  # the minimum of the energy
    volumes: Array  # (volumes,) A^3
    energies: Array  # (volumes,) eV, without vibrations
    vibrations: list[modes.Thermal]  # at each volume, at all temperatures that were asked for and one more
    temperatures: Array  # (temperatures,) K
    volume: Array  # A^3
    gibbs: Array  # eV
    bulk_modulus: Array  # GPa, isothermal
    expansion: Array  # 1/K, of the volume
    heat_capacity: Array  # eV/K, at constant pressure
    grueneisen: Array  # thermodynamic; NaN at 0 K


@dataclass(frozen=True, eq=False)
class _Points:
    """A crystal at several volumes, each at the minimum of its shape and positions."""

    minimum: ase.Atoms
    supercell: Integers
    images: Sequence[ase.Atoms]  # which are cells that the supercell repeats


class _PointsTask(Task[_Points]):
    def __init__(self, settings: QhaSettings, start: Start) -> None:
        self.settings = settings
        if start.relax:
            self.relaxed = RelaxSettings(start.fmax, start.steps, cell=True, shape="volume", symmetry=start.symmetry)
        self._supercells = dict[int, Integers]()  # by the identity of their minima

    def images(self, minimum: ase.Atoms) -> list[ase.Atoms]:
        phonons = self.settings.phonons
        cell, self._supercells[id(minimum)] = repeated(minimum, phonons.supercell, phonons.length)
        images = []
        for scale in np.linspace(self.settings.low, self.settings.high, self.settings.volumes):
            image = cell.copy()
            image.set_cell(cell.cell * scale ** (1 / 3), scale_atoms=True)
            images.append(image)
        return images

    def result(self, minimum: ase.Atoms, images: Sequence[ase.Atoms]) -> _Points:
        return _Points(minimum, self._supercells.pop(id(minimum)), images)


def quasi_harmonic(
    structures: Sequence[ase.Atoms],
    engine: Engine,
    settings: QhaSettings | None = None,
    start: Start | None = None,
) -> Iterator[tuple[int, QuasiHarmonic | Failure]]:
    """What each crystal does with temperature, by its place in the list, as soon as it is known.

        >>> from ase.build import bulk
        >>> from atomsml import AtomsMLCalculator
        >>> from atomsml.properties.engine import Engine
        >>> from atomsml.properties.qha import quasi_harmonic
        >>> engine = Engine.of(AtomsMLCalculator("refractory-pbe"))
        >>> [(_, tungsten)] = quasi_harmonic([bulk("W")], engine)
        >>> bool(tungsten.volume[-1] > tungsten.volume[0])
        True

    By default cell and positions are relaxed first, and shape and positions at each volume; the space group is kept.

    Raises:
        ValueError: a structure that has no phonons.
    """
    for atoms in structures:
        check(atoms)
    settings = settings or QhaSettings()
    start = start or Start(fmax=0.001, cell=True, symmetry=TOLERANCE)
    for index, points in measure(structures, engine, start, _PointsTask(settings, start)):
        if isinstance(points, Failure):
            yield index, points
            continue
        try:
            yield index, _conclude(points, engine, settings)
        except ValueError as error:
            yield index, Failure(str(error))


def _conclude(points: _Points, engine: Engine, settings: QhaSettings) -> QuasiHarmonic:
    cells = len(points.minimum) // len(points.images[0])
    volumes = cells * np.array([image.get_volume() for image in points.images])
    energies = cells * np.array([image.get_potential_energy() for image in points.images])
    temperatures = settings.phonons.temperatures
    more = np.append(temperatures, 2 * temperatures[-1] - temperatures[-2])  # for the derivative at the last
    vibrations = _vibrations(points, engine, settings, more)
    return follow(points.minimum, volumes, energies, vibrations, settings.form)


def _vibrations(points: _Points, engine: Engine, settings: QhaSettings, temperatures: Array) -> list[modes.Thermal]:
    """At each volume; the displaced supercells of all are evaluated together.

    Raises:
        ValueError: imaginary modes, or forces that are not finite.
    """
    crystals = [Displaced.of(image, points.supercell, settings.phonons.distance) for image in points.images]
    evaluated = iter(engine.evaluate([image for crystal in crystals for image in crystal.images]))
    found = []
    for crystal, point in zip(crystals, points.images, strict=True):
        images = [next(evaluated) for _ in crystal.images]
        if not all(np.isfinite(image.get_forces()).all() for image in images):
            raise ValueError("the model gives no finite forces for a changed copy of it")
        phonopy = crystal.solve(images).phonopy()
        mesh = modes.mesh(phonopy, settings.phonons.mesh)
        if mesh.unstable > 0:
            scale = point.get_volume() / len(point) * len(points.minimum) / points.minimum.get_volume()
            raise ValueError(
                f"at {scale:.3f} of its volume {mesh.unstable:.1%} of the modes are imaginary, the lowest of "
                f"{mesh.frequencies.min():.2f} THz, so it has no free energy; look at its phonons, or narrow the range"
            )
        found.append(modes.thermal(phonopy, temperatures, len(points.minimum) // len(phonopy.primitive)))
    return found


def follow(
    minimum: ase.Atoms, volumes: Array, energies: Array, vibrations: list[modes.Thermal], form: str = "birch-murnaghan"
) -> QuasiHarmonic:
    """What follows from energies (eV) and vibrations at volumes (A^3), all of the atoms of the minimum.

    Nothing is told of the last temperature of the vibrations.

    Raises:
        ValueError: the free energy has no minimum among the volumes even at the first temperatures.
    """
    temperatures = vibrations[0].temperatures
    free = energies + np.array([each.free_energy for each in vibrations]).T  # (temperatures, volumes)
    fitted = list[tuple[float, float, float, float]]()
    for each in free:
        try:
            fitted.append(fit(volumes, each, form))
        except ValueError:
            break
    if len(fitted) < 3:
        raise ValueError("the free energy has no minimum among the volumes, not even when it is cold; widen the range")
    gibbs, volume, b0, _ = np.array(fitted).T
    expansion = np.gradient(volume, temperatures[: len(volume)]) / volume
    expansion[temperatures[: len(volume)] == 0] = 0  # the third law
    gibbs, volume, b0, expansion = (each[:-1] for each in (gibbs, volume, b0, expansion))
    temperatures = temperatures[: len(volume)]
    capacities = np.array([each.heat_capacity for each in vibrations])[:, : len(volume)]
    middle = volumes.mean()
    powers = np.polyfit(volumes / middle - 1, capacities, DEGREE)
    at_constant_volume = np.einsum("pt,pt->t", powers, np.vander(volume / middle - 1, DEGREE + 1).T)
    with np.errstate(invalid="ignore", divide="ignore"):
        grueneisen = expansion * b0 * volume / at_constant_volume
    return QuasiHarmonic(
        minimum,
        volumes,
        energies,
        vibrations,
        temperatures,
        volume,
        gibbs,
        b0 / GPA,
        expansion,
        at_constant_volume + expansion**2 * b0 * volume * temperatures,
        grueneisen,
    )
