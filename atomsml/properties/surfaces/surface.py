"""Surface energies: what it costs to cut a crystal along a plane, per area of the two faces that this makes.

    gamma = (E - n E_bulk) / 2 A    with n atoms of energy E_bulk each

of a slab whose faces are both relaxed, or both not. Where the bottom is held as it was cut, the energy of that face is
taken off: gamma = (E - n E_bulk) / A - gamma_cut. Surfaces are not reconstructed beyond what relaxation does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import ase
import numpy as np

from atomsml.properties.conventional import conventional_cell
from atomsml.properties.engine import Engine
from atomsml.properties.surfaces.slabs import Slab, SlabSettings, cut
from atomsml.properties.surfaces.wulff import Face, wulff_shape
from atomsml.properties.task import Failure, Start, found_minimum, minima, relaxed_groups
from atomsml.simulate.relax import Relaxation, RelaxSettings


@dataclass(frozen=True, eq=False)
class Surface:
    """A slab at its minimum."""

    cut: Slab  # as it was cut
    slab: Slab  # relaxed
    energy: float  # eV/A^2; the mean of two faces that are not the same
    cut_energy: float  # eV/A^2, before the slab was relaxed

    @property
    def moved(self) -> float:
        """A, how far an atom moved at most."""
        return float(np.linalg.norm(self.slab.atoms.positions - self.cut.atoms.positions, axis=1).max())


@dataclass(frozen=True, eq=False)
class Surfaces:
    """Of a crystal."""

    bulk: ase.Atoms  # its conventional cell, with its energy
    surfaces: list[Surface]  # the lowest energy first
    shape: list[Face]  # of Wulff, of these planes; none where they do not close it


def check(atoms: ase.Atoms) -> None:
    """Refuse what has no surfaces to be cut.

    Raises:
        ValueError: no crystal that is periodic along all three axes.
    """
    if not atoms.pbc.all():
        raise ValueError(
            f"surfaces are cut from a crystal that is periodic along all three axes, pbc is {atoms.pbc.tolist()}"
        )


def surface_energies(
    structures: Sequence[ase.Atoms],
    engine: Engine,
    settings: SlabSettings | None = None,
    start: Start | None = None,
) -> Iterator[tuple[int, Surfaces | Failure]]:
    """The surface energies of each crystal, by its place in the list; slabs of all crystals are relaxed together.

        >>> from ase.build import bulk
        >>> from atomsml import AtomsMLCalculator
        >>> from atomsml.properties.engine import Engine
        >>> from atomsml.properties.surfaces.slabs import SlabSettings
        >>> from atomsml.properties.surfaces.surface import surface_energies
        >>> engine = Engine.of(AtomsMLCalculator("refractory-pbe"))
        >>> [(_, tungsten)] = surface_energies([bulk("W")], engine, SlabSettings(miller=((1, 1, 0),)))
        >>> 0.15 < tungsten.surfaces[0].energy < 0.25
        True

    Raises:
        ValueError: a structure that `check` refuses.
    """
    for atoms in structures:
        check(atoms)
    settings, start = settings or SlabSettings(), start or Start(cell=True)
    bulks, slabs = dict[int, ase.Atoms](), dict[int, list[Slab]]()
    for index, minimum in minima(structures, engine, start):
        try:
            bulks[index] = conventional_cell(_checked(minimum))
            slabs[index] = cut(bulks[index], settings)
            _check_faces(slabs[index], settings)
        except ValueError as error:
            bulks.pop(index, None), slabs.pop(index, None)
            yield index, Failure(str(error))
    bulks = dict(zip(bulks, engine.evaluate(list(bulks.values())), strict=True))
    groups = {index: [slab.atoms for slab in some] for index, some in slabs.items()}
    for index, found in relaxed_groups(groups, engine, RelaxSettings(start.fmax, start.steps)):
        try:
            yield index, _surfaces(bulks[index], slabs[index], found, settings, start.fmax)
        except ValueError as error:
            yield index, Failure(str(error))


def _checked(minimum: ase.Atoms | Failure) -> ase.Atoms:
    if isinstance(minimum, Failure):
        raise ValueError(minimum.reason)
    return minimum


def _check_faces(slabs: Sequence[Slab], settings: SlabSettings) -> None:
    """A slab of which one face is held has the energy of the other only where both were the same."""
    differing = [slab.name for slab in slabs if not slab.same_faces]
    if settings.hold == "bottom" and differing:
        raise ValueError(
            f"the two faces of the slab {differing[0]} differ, so with its bottom held it has no surface energy; "
            "hold its middle, or nothing"
        )


def _surfaces(
    bulk: ase.Atoms, slabs: Sequence[Slab], found: Sequence[Relaxation], settings: SlabSettings, fmax: float
) -> Surfaces:
    """
    Raises:
        ValueError: a slab found no minimum.
    """
    per_atom = bulk.get_potential_energy() / len(bulk)
    surfaces = []
    for slab, each in zip(slabs, found, strict=True):
        atoms = found_minimum(each, fmax)
        if isinstance(atoms, Failure):
            raise ValueError(f"the slab {slab.name} of it {atoms.reason}")
        excess = (each.state.energy - per_atom * len(atoms)) / slab.area
        cut_energy = (each.start_energy - per_atom * len(atoms)) / (2 * slab.area)
        energy = excess - cut_energy if settings.hold == "bottom" else excess / 2
        surfaces.append(Surface(slab, replace(slab, atoms=atoms), energy, cut_energy))
    surfaces.sort(key=lambda surface: surface.energy)
    lowest = {surface.slab.miller: surface.energy for surface in reversed(surfaces) if surface.slab.miller}
    return Surfaces(bulk, surfaces, wulff_shape(bulk, lowest))
