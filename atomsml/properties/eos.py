"""Equations of state: the energy of a crystal against its volume, and from it volume, bulk modulus and its derivative.

With x = V / V0, in the forms E(V) - E0 of

    Birch-Murnaghan  9 V0 B0 / 16 ((y - 1)^3 B0' + (y - 1)^2 (6 - 4 y)),  y = x^(-2/3)
                     (Birch, Phys. Rev. 71, 809 (1947))
    Vinet            9 V0 B0 (z - 1)^2 (1 - (1 + u) exp(-u)) / u^2,  u = 3/2 (B0' - 1) (z - 1),  z = x^(1/3)
                     (Vinet et al., J. Phys.: Condens. Matter 1, 1941 (1989))

Each volume has its own relaxed shape and positions: this is what a crystal does under pressure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import ase
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import curve_fit

from atomsml.properties.engine import Engine
from atomsml.properties.task import Failure, Start, Task, measure
from atomsml.simulate.relax import RelaxSettings
from atomsml.units import GPA

Array = NDArray[np.float64]
Form = Callable[[Array, float, float, float, float], Array]  # of V, E0, V0, B0, B0'


def birch_murnaghan(volume: Array, e0: float, v0: float, b0: float, b1: float) -> Array:
    """Energies (eV) at volumes (A^3); b0 in eV/A^3. Third order."""
    y = (v0 / volume) ** (2 / 3)
    return e0 + 9 * v0 * b0 / 16 * ((y - 1) ** 3 * b1 + (y - 1) ** 2 * (6 - 4 * y))


def vinet(volume: Array, e0: float, v0: float, b0: float, b1: float) -> Array:
    """Energies (eV) at volumes (A^3); b0 in eV/A^3."""
    apart = (volume / v0) ** (1 / 3) - 1
    u = 1.5 * (b1 - 1) * apart
    small = np.abs(u) < 0.01  # where 1 - (1 + u) exp(-u) is a difference of what is alike: five terms of its series
    series = 1 / 2 - u / 3 + u**2 / 8 - u**3 / 30 + u**4 / 144
    divisor = np.where(small, 1, u)
    return e0 + 9 * v0 * b0 * apart**2 * np.where(small, series, (1 - (1 + u) * np.exp(-u)) / divisor**2)


FORMS: dict[str, Form] = {"birch-murnaghan": birch_murnaghan, "vinet": vinet}


@dataclass(frozen=True)
class EosSettings:
    """Which volumes, and which form.

    Raises:
        ValueError: an unknown form, fewer than five volumes, a range that is not between 0 and 0.5.
    """

    form: str = "birch-murnaghan"  # a key of FORMS
    volumes: int = 11  # how many
    range: float = 0.1  # from (1 - range) V to (1 + range) V of the minimum

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise ValueError(f"unknown form {self.form!r}; there are {', '.join(FORMS)}")
        if self.volumes < 5:
            raise ValueError(f"a fit of four numbers needs at least 5 volumes, got {self.volumes}")
        if not 0 < self.range < 0.5:
            raise ValueError(f"the range of volumes is a fraction between 0 and 0.5, got {self.range}")


@dataclass(frozen=True, eq=False)
class EquationOfState:
    """A fitted curve, and the points to which it was fitted."""

    atoms: ase.Atoms  # the minimum
    volumes: Array  # A^3
    energies: Array  # eV
    form: str
    e0: float  # eV
    v0: float  # A^3
    b0: float  # GPa
    b1: float  # derivative of b0 by the pressure
    residual: float  # root mean square of what the fit leaves, eV

    def energy(self, volumes: Array) -> Array:
        """eV at volumes in A^3, by the fit."""
        return FORMS[self.form](volumes, self.e0, self.v0, self.b0 * GPA, self.b1)

    def pressure(self, volumes: Array) -> Array:
        """GPa at volumes in A^3, by the fit: -dE/dV."""
        step = 1e-4 * volumes
        return -(self.energy(volumes + step) - self.energy(volumes - step)) / (2 * step) / GPA


def fit(volumes: Array, energies: Array, form: str = "birch-murnaghan") -> tuple[float, float, float, float]:
    """E0 (eV), V0 (A^3), B0 (eV/A^3) and B0' of the curve nearest to the points.

    Raises:
        ValueError: the points have no minimum between them, or no such curve is near.
    """
    lowest = int(np.argmin(energies))
    if lowest in (0, len(energies) - 1):
        raise ValueError("the energy has no minimum among the volumes; let the cell be relaxed, or widen the range")
    a, b, _ = np.polyfit(volumes, energies, 2)
    guess = (float(energies.min()), -b / (2 * a), 2 * a * float(volumes[lowest]), 4.0)
    try:
        (e0, v0, b0, b1), _ = curve_fit(FORMS[form], volumes, energies, guess, maxfev=10_000)
    except RuntimeError:
        raise ValueError(f"no {form} curve is near the energies; are they smooth?") from None
    return float(e0), float(v0), float(b0), float(b1)


class _EquationOfStateTask(Task[EquationOfState]):
    def __init__(self, settings: EosSettings, start: Start) -> None:
        self.settings = settings
        self.relaxed = (
            RelaxSettings(start.fmax, start.steps, cell=True, shape="volume", symmetry=start.symmetry)
            if start.relax
            else None
        )

    def images(self, minimum: ase.Atoms) -> list[ase.Atoms]:
        images = []
        for scale in np.linspace(1 - self.settings.range, 1 + self.settings.range, self.settings.volumes):
            image = minimum.copy()
            image.set_cell(minimum.cell * scale ** (1 / 3), scale_atoms=True)
            images.append(image)
        return images

    def result(self, minimum: ase.Atoms, images: Sequence[ase.Atoms]) -> EquationOfState:
        volumes = np.array([image.get_volume() for image in images])
        energies = np.array([image.get_potential_energy() for image in images])
        form = self.settings.form
        e0, v0, b0, b1 = fit(volumes, energies, form)
        residual = float(np.sqrt(np.mean((FORMS[form](volumes, e0, v0, b0, b1) - energies) ** 2)))
        return EquationOfState(minimum, volumes, energies, form, e0, v0, b0 / GPA, b1, residual)


def check(atoms: ase.Atoms) -> None:
    """Refuse what has no equation of state.

    Raises:
        ValueError: no crystal that is periodic along all three axes.
    """
    if not atoms.pbc.all():
        raise ValueError(
            f"an equation of state is of a crystal that is periodic along all three axes, pbc is {atoms.pbc.tolist()}"
        )


def equations_of_state(
    structures: Sequence[ase.Atoms],
    engine: Engine,
    settings: EosSettings | None = None,
    start: Start | None = None,
) -> Iterator[tuple[int, EquationOfState | Failure]]:
    """The equation of state of each crystal, by its place in the list, as soon as it is known.

        >>> from ase.build import bulk
        >>> from atomsml import AtomsMLCalculator
        >>> from atomsml.properties.engine import Engine
        >>> from atomsml.properties.eos import equations_of_state
        >>> engine = Engine.of(AtomsMLCalculator("refractory-pbe"))
        >>> [(_, tungsten)] = equations_of_state([bulk("W")], engine)
        >>> round(tungsten.v0, 1)
        16.2

    Without `start.relax` the crystals are scaled as they are, shape and fractional positions fixed.

    Raises:
        ValueError: a structure that `check` refuses.
    """
    for atoms in structures:
        check(atoms)
    start = start or Start(cell=True)
    yield from measure(structures, engine, start, _EquationOfStateTask(settings or EosSettings(), start))
