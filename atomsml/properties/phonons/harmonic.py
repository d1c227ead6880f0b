"""Harmonic phonons of crystals: one displacement run of all of them, and bands, states and thermal properties.

The force constants are those of a supercell with one atom moved at a time, as far as symmetry does not tell what the
others do (Parlinski, Li and Kawazoe, Phys. Rev. Lett. 78, 4063 (1997)).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import ase
import numpy as np
from numpy.typing import NDArray
from phonopy import Phonopy

from atomsml.properties.engine import Engine
from atomsml.properties.phonons import modes
from atomsml.properties.phonons.force_constants import Displaced, repeated, to_ase
from atomsml.properties.phonons.supercell import shortest
from atomsml.properties.task import Failure, Start, Task, measure
from atomsml.simulate.symmetry import SpaceGroup

Array = NDArray[np.float64]

TOLERANCE = 0.01  # A: within which a relaxation finds the space group, and keeps it
ROOM_TEMPERATURE = 300.0  # K, which is always among the temperatures


@dataclass(frozen=True)
class PhononSettings:
    """Which displacements, and where frequencies are looked at.

    Raises:
        ValueError: a supercell that is none, a length, distance, mesh or temperature that is not positive.
    """

    supercell: tuple[int, int, int] | None = None  # multiples of the lattice vectors; None: chosen by `length`
    length: float = 12.0  # A: no lattice vector of a chosen supercell is shorter
    distance: float = 0.01  # A, by which atoms are displaced
    mesh: float = 60.0  # A: a mesh has this divided by the length of a lattice vector points along it, nearly
    t_max: float = 1000.0  # K
    t_step: float = 10.0  # K

    def __post_init__(self) -> None:
        if self.supercell is not None and min(self.supercell) < 1:
            raise ValueError(f"a supercell is three numbers of at least 1, got {self.supercell}")
        for name, unit in (("length", "A"), ("distance", "A"), ("mesh", "A"), ("t_max", "K"), ("t_step", "K")):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a positive number of {unit}, got {value}")
        if self.t_max / self.t_step > 10_000:
            raise ValueError(f"{self.t_max:g} K in steps of {self.t_step:g} K are more than 10,000 temperatures")

    @property
    def temperatures(self) -> Array:
        """K, from 0."""
        return np.union1d(np.arange(0, self.t_max + self.t_step / 2, self.t_step), [ROOM_TEMPERATURE])


@dataclass(frozen=True, eq=False)
class Phonons:
    """Of one crystal."""

    atoms: ase.Atoms  # the minimum
    phonopy: Phonopy  # with force constants, eV/A^2
    bands: modes.Bands
    mesh: modes.Mesh
    density: modes.Density
    thermal: modes.Thermal  # of all atoms of `atoms`
    imaginary: list[modes.Imaginary]
    reach: float | None  # A: how far the model looks for neighbours, where it tells

    @property
    def primitive(self) -> ase.Atoms:
        """The cell to which q-points refer."""
        return to_ase(self.phonopy.primitive)

    @property
    def length(self) -> float:
        """How far an atom is from its images in the supercell, A."""
        return shortest(self.phonopy.supercell.cell)


class _PhononTask(Task[Phonons]):
    def __init__(self, settings: PhononSettings, reach: float | None = None) -> None:
        self.settings, self.reach = settings, reach
        self._waiting = dict[int, Displaced]()  # by the identity of their minima

    def images(self, minimum: ase.Atoms) -> list[ase.Atoms]:
        settings = self.settings
        cell, supercell = repeated(minimum, settings.supercell, settings.length)
        displaced = Displaced.of(cell, supercell, settings.distance)
        self._waiting[id(minimum)] = displaced
        return displaced.images

    def result(self, minimum: ase.Atoms, images: Sequence[ase.Atoms]) -> Phonons:
        phonopy = self._waiting.pop(id(minimum)).solve(images).phonopy()
        bands = modes.bands(phonopy)
        mesh = modes.mesh(phonopy, self.settings.mesh)
        if mesh.frequencies.max() < modes.IMAGINARY:
            raise ValueError("nothing holds its atoms: no frequency is above zero; is it a crystal?")
        return Phonons(
            minimum,
            phonopy,
            bands,
            mesh,
            modes.density(phonopy),
            modes.thermal(phonopy, self.settings.temperatures, len(minimum) // len(phonopy.primitive)),
            modes.imaginary(bands, mesh),
            self.reach,
        )


def check(atoms: ase.Atoms) -> None:
    """Refuse what has no phonons with wave vectors.

    Raises:
        ValueError: no crystal that is periodic along all three axes, no volume, or no symmetry that can be found.
    """
    if not atoms.pbc.all():
        raise ValueError(f"phonons are of a crystal that is periodic along all three axes, pbc is {atoms.pbc.tolist()}")
    if atoms.cell.volume < 1e-6:
        raise ValueError("phonons are of a crystal, and its cell has no volume")
    SpaceGroup(atoms.positions, atoms.numbers, atoms.cell.array, TOLERANCE)


def phonons(
    structures: Sequence[ase.Atoms],
    engine: Engine,
    settings: PhononSettings | None = None,
    start: Start | None = None,
) -> Iterator[tuple[int, Phonons | Failure]]:
    """The phonons of each crystal, by its place in the list, as soon as they are known.

        >>> from ase.build import bulk
        >>> from atomsml import AtomsMLCalculator
        >>> from atomsml.properties.engine import Engine
        >>> from atomsml.properties.phonons.harmonic import phonons
        >>> engine = Engine.of(AtomsMLCalculator("universal-small"))
        >>> [(_, silicon)] = phonons([bulk("Si")], engine)
        >>> silicon.bands.ends[0]
        ('Γ', 'X')

    By default cell and positions are relaxed first, and keep their space group.

    Raises:
        ValueError: a structure that `check` refuses.
    """
    for atoms in structures:
        check(atoms)
    start = start or Start(fmax=0.001, cell=True, symmetry=TOLERANCE)
    neighbors = engine.model.neighbors
    task = _PhononTask(settings or PhononSettings(), None if neighbors is None else neighbors.cutoff)
    yield from measure(structures, engine, start, task)
