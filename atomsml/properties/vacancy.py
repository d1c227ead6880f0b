"""Vacancies: what it costs to take one atom out of a crystal, of each kind that symmetry tells apart.

    E_f = E(N - 1) + mu - E(N)

in a supercell of N atoms, with mu the energy of an atom of the element where it goes: of an elemental crystal into
the crystal itself; of a compound into a reference that must be given, so that E_f is that of crystals in equilibrium
with it. The cell stays that of the perfect crystal. Vacancies are neutral.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import ase
import numpy as np

from atomsml.properties.conventional import Site, conventional_cell, distinct_sites
from atomsml.properties.engine import Engine
from atomsml.properties.references import require_elements
from atomsml.properties.task import Failure, Start, found_minimum, minima, relaxed_groups
from atomsml.simulate.relax import Relaxation, RelaxSettings


@dataclass(frozen=True)
class VacancySettings:
    """How far vacancies are from each other.

    Raises:
        ValueError: a length that is not positive.
    """

    length: float = 10.0  # A, between opposite faces of the supercell, at least

    def __post_init__(self) -> None:
        if not 0 < self.length < 200:
            raise ValueError(f"the length of the supercell is between 0 and 200 A, got {self.length}")


@dataclass(frozen=True, eq=False)
class Vacancy:
    """Of one kind of atom."""

    site: Site
    atoms: ase.Atoms  # relaxed, without the atom
    energy: float  # eV
    rigid_energy: float  # eV, before the others relaxed
    moved: float  # A, how far an atom moved at most


@dataclass(frozen=True, eq=False)
class Vacancies:
    """Of a crystal."""

    bulk: ase.Atoms  # its conventional cell
    supercell: ase.Atoms  # with its energy
    potentials: dict[str, float]  # eV/atom that were used, of each element
    vacancies: list[Vacancy]  # the lowest energy first


def check(atoms: ase.Atoms) -> None:
    """Refuse what is no crystal.

    Raises:
        ValueError: no crystal that is periodic along all three axes.
    """
    if not atoms.pbc.all():
        raise ValueError(
            f"a vacancy is in a crystal that is periodic along all three axes, pbc is {atoms.pbc.tolist()}"
        )


def supercell(crystal: ase.Atoms, length: float) -> ase.Atoms:
    """The smallest repetition of a cell whose opposite faces are at least that far apart (A)."""
    heights = 1 / np.linalg.norm(crystal.cell.reciprocal().array, axis=1)
    return crystal.repeat(np.ceil(length / heights - 1e-6).astype(int))


def vacancies(
    structures: Sequence[ase.Atoms],
    engine: Engine,
    settings: VacancySettings | None = None,
    start: Start | None = None,
    potentials: Mapping[str, float] | None = None,
) -> Iterator[tuple[int, Vacancies | Failure]]:
    """The vacancies of each crystal, by its place in the list; those of all crystals are relaxed together.

        >>> from ase.build import bulk
        >>> from atomsml import AtomsMLCalculator
        >>> from atomsml.properties.engine import Engine
        >>> from atomsml.properties.vacancy import VacancySettings, vacancies
        >>> engine = Engine.of(AtomsMLCalculator("refractory-pbe"))
        >>> [(_, tungsten)] = vacancies([bulk("W")], engine, VacancySettings(length=9))
        >>> 2.5 < tungsten.vacancies[0].energy < 4
        True

    Args:
        potentials: eV/atom of elements, from `references.elemental`; a compound needs those of all its elements.

    Raises:
        ValueError: a structure that `check` refuses.
    """
    for atoms in structures:
        check(atoms)
    settings, start, given = settings or VacancySettings(), start or Start(cell=True), dict(potentials or {})
    failures = {index: reason for index, atoms in enumerate(structures) if (reason := _unreferred(atoms, given))}
    for index, reason in failures.items():
        yield index, Failure(reason)
    treated = [index for index in range(len(structures)) if index not in failures]
    cells = dict[int, _Cells]()
    for place, minimum in minima([structures[index] for index in treated], engine, start):
        try:
            cells[treated[place]] = _cells(minimum, settings)
        except ValueError as error:
            yield treated[place], Failure(str(error))
    perfect = dict(zip(cells, engine.evaluate([each.perfect for each in cells.values()]), strict=True))
    groups = {index: each.removed for index, each in cells.items()}
    for index, found in relaxed_groups(groups, engine, RelaxSettings(start.fmax, start.steps)):
        try:
            yield index, _vacancies(replace(cells[index], perfect=perfect[index]), found, given, start.fmax)
        except ValueError as error:
            yield index, Failure(str(error))


@dataclass(frozen=True, eq=False)
class _Cells:
    """Of a crystal: its cell, its supercell, and this without an atom of each of its sites."""

    bulk: ase.Atoms
    perfect: ase.Atoms
    sites: list[Site]
    removed: list[ase.Atoms]


def _unreferred(atoms: ase.Atoms, known: Mapping[str, float]) -> str | None:
    """Why atoms that leave the crystal have no energy; None where they have."""
    elements = set(atoms.symbols)
    try:
        require_elements(elements if len(elements) > 1 else (), known)
    except ValueError as error:
        return f"has several elements, and {error}"
    return None


def _cells(minimum: ase.Atoms | Failure, settings: VacancySettings) -> _Cells:
    """
    Raises:
        ValueError: no minimum, no symmetry, or a supercell of one atom.
    """
    if isinstance(minimum, Failure):
        raise ValueError(minimum.reason)
    bulk = conventional_cell(minimum)
    perfect = supercell(bulk, settings.length)
    if len(perfect) == 1:
        raise ValueError("is one atom in its supercell, and without it none; choose a larger length")
    sites, removed = distinct_sites(bulk), []
    for site in sites:
        removed.append(perfect.copy())
        del removed[-1][site.index]  # the first repetition comes first
    return _Cells(bulk, perfect, sites, removed)


def _vacancies(cells: _Cells, found: Sequence[Relaxation], given: Mapping[str, float], fmax: float) -> Vacancies:
    """
    Raises:
        ValueError: a vacancy found no minimum.
    """
    whole, size = cells.perfect.get_potential_energy(), len(cells.perfect)
    elements = set(cells.perfect.symbols)
    potentials = {element: float(given.get(element, whole / size)) for element in elements}
    vacancies = []
    for site, before, each in zip(cells.sites, cells.removed, found, strict=True):
        atoms = found_minimum(each, fmax)
        if isinstance(atoms, Failure):
            raise ValueError(f"without {site.element} at {site.multiplicity}{site.wyckoff} it {atoms.reason}")
        zero = whole - potentials[site.element]
        moved = np.linalg.norm(atoms.positions - before.positions, axis=1).max()
        vacancies.append(Vacancy(site, atoms, each.state.energy - zero, each.start_energy - zero, float(moved)))
    vacancies.sort(key=lambda vacancy: vacancy.energy)
    return Vacancies(cells.bulk, cells.perfect, potentials, vacancies)
