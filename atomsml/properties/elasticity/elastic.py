"""Elastic constants of crystals, by stresses of small finite strains.

C_ij is the slope of stress i along strain j, at rest in the cell: d sigma_ij / d e_kl = C_ijkl only where there is no
stress to begin with (Wallace, Thermodynamics of Crystals (1972)), so cells are relaxed first. Atoms follow each strain
to their new minima, with the cell fixed; clamped, they do not. Only the strains that the point group leaves are done.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import ase
import numpy as np

from atomsml.properties.conventional import point_group
from atomsml.properties.elasticity.strains import (
    fit,
    invariant_tensors,
    needed_strains,
    strained,
)
from atomsml.properties.elasticity.tensor import BASIS, COMPONENTS, Array, ElasticTensor, to_mandel
from atomsml.properties.engine import Engine
from atomsml.properties.task import Failure, Start, Task, measure
from atomsml.simulate.relax import RelaxSettings
from atomsml.units import GPA

SOFTEST = 1e-3  # GPa: what resists less is no crystal but atoms that do not touch
FLAT = 1e-6  # A^3
AT_REST = Start(fmax=0.0005, cell=True)  # strained copies as well, whose stresses are small differences


@dataclass(frozen=True)
class ElasticSettings:
    """Which strains, and what atoms do in them.

    Raises:
        ValueError: a strain that is not between 0 and 0.1, no magnitudes.
    """

    strain: float = 0.005  # the largest: root of the sum of the squares of its nine components
    magnitudes: int = 2  # how many up to the largest, evenly; each with its opposite
    clamped: bool = False  # atoms stay where the strain takes them
    symmetry: bool = True  # strains that the point group makes alike are left out; False: all six are done

    def __post_init__(self) -> None:
        if not 0 < self.strain <= 0.1:
            raise ValueError(f"the strain must be above 0 and at most 0.1, got {self.strain}")
        if self.magnitudes < 1:
            raise ValueError(f"at least one magnitude of strain is needed, got {self.magnitudes}")

    @property
    def steps(self) -> Array:
        """(magnitudes,)"""
        return self.strain * np.arange(1, self.magnitudes + 1) / self.magnitudes


@dataclass(frozen=True, eq=False)
class ElasticConstants:
    """The tensor of a crystal, in the frame of the cell of `atoms`, and how well the stresses agree with it."""

    atoms: ase.Atoms  # the minimum
    tensor: ElasticTensor
    independent: int  # how many constants the point group leaves
    strains: tuple[str, ...]  # which were done, out of COMPONENTS
    residual: float  # root mean square of what the tensor leaves of the stresses, over that of the stresses
    stress: float  # GPa, the largest component at the minimum

    @property
    def uncertainty(self) -> float:
        """GPa: by how much an eigenvalue may be wrong because of the residual, about."""
        return self.residual * float(np.abs(self.tensor.eigenvalues).max())

    @property
    def density(self) -> float:
        """u/A^3."""
        return float(self.atoms.get_masses().sum() / self.atoms.get_volume())

    @property
    def sound_velocity(self) -> float:
        """m/s, mean over directions and waves; NaN where the crystal is not stable."""
        return self.tensor.mean_velocity(self.density)

    @property
    def debye_temperature(self) -> float:
        """K, of all atoms; NaN where the crystal is not stable."""
        return self.tensor.debye_temperature(self.density, len(self.atoms) / self.atoms.get_volume())


class _ElasticTask(Task[ElasticConstants]):
    stress = True

    def __init__(self, settings: ElasticSettings, start: Start) -> None:
        self.settings = settings
        self.relaxed = None if settings.clamped else RelaxSettings(start.fmax, start.steps, stress=True)

    def images(self, minimum: ase.Atoms) -> list[ase.Atoms]:
        strains = self._strains(self._basis(minimum))
        return [strained(minimum, sign * strain) for strain in strains for sign in (1, -1)]

    def result(self, minimum: ase.Atoms, images: Sequence[ase.Atoms]) -> ElasticConstants:
        basis = self._basis(minimum)
        stresses = np.array([to_mandel(image.get_stress(voigt=False)) for image in images]) / GPA
        odd = (stresses[::2] - stresses[1::2]) / 2
        if np.abs(odd).max() < SOFTEST * self.settings.strain:
            raise ValueError("resists no strain: its atoms do not touch across the cell")
        tensor, residual = fit(basis, to_mandel(self._strains(basis)), odd)
        return ElasticConstants(
            atoms=minimum,
            tensor=ElasticTensor.of_mandel(tensor),
            independent=len(basis),
            strains=tuple(COMPONENTS[i] for i in needed_strains(basis)),
            residual=residual,
            stress=float(np.abs(minimum.get_stress()).max() / GPA),
        )

    def _basis(self, minimum: ase.Atoms) -> Array:
        group = point_group(minimum) if self.settings.symmetry else np.eye(3)[None]
        return invariant_tensors(group)

    def _strains(self, basis: Array) -> Array:
        """(n, 3, 3), to be done with their opposites."""
        directions = BASIS[needed_strains(basis)]
        return np.einsum("sij,m->smij", directions, self.settings.steps).reshape(-1, 3, 3)


def check(atoms: ase.Atoms) -> None:
    """Refuse what has no elastic constants.

    Raises:
        ValueError: no crystal that is periodic along all three axes, no volume, atoms that are held.
    """
    if not atoms.pbc.all():
        raise ValueError(
            f"elastic constants are of a crystal that is periodic along all three axes, pbc is {atoms.pbc.tolist()}"
        )
    if atoms.cell.volume < FLAT:
        raise ValueError("the cell has no volume")
    if atoms.constraints:
        raise ValueError("elastic constants are of a crystal whose atoms are free; take its constraints away")


def elastic_constants(
    structures: Sequence[ase.Atoms],
    engine: Engine,
    settings: ElasticSettings | None = None,
    start: Start | None = None,
) -> Iterator[tuple[int, ElasticConstants | Failure]]:
    """The elastic constants of each crystal, by its place in the list, as soon as they are known.

        >>> from ase.build import bulk
        >>> from atomsml import AtomsMLCalculator
        >>> from atomsml.properties.elasticity.elastic import elastic_constants
        >>> from atomsml.properties.engine import Engine
        >>> engine = Engine.of(AtomsMLCalculator("refractory-pbe"))
        >>> [(_, tungsten)] = elastic_constants([bulk("W", cubic=True)], engine)
        >>> tungsten.independent, tungsten.tensor.stable
        (3, True)

    Images are relaxed to `start.fmax` as well. Without `start.relax` the crystals must be at rest as they are given.

    Raises:
        ValueError: a structure that `check` refuses.
    """
    for atoms in structures:
        check(atoms)
    start = start or AT_REST
    yield from measure(structures, engine, start, _ElasticTask(settings or ElasticSettings(), start))
