"""Clean slabs on which something adsorbs: given or cut, relaxed, and wide enough."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import ase
import numpy as np

from atomsml.properties.conventional import conventional_cell, same_faces
from atomsml.properties.engine import Engine
from atomsml.properties.surfaces.slabs import Slab, SlabSettings, cut, hold, thickness_of, upright
from atomsml.properties.task import Failure, Start, found_minimum, minima, relaxed_groups
from atomsml.simulate.relax import Relaxation, RelaxSettings

LEAST_VACUUM = 5.0  # A: what has no such gap is no slab


@dataclass(frozen=True, eq=False)
class Base:
    """A clean slab."""

    slab: Slab  # as it was given or cut, relaxed
    atoms: ase.Atoms  # repeated, with its energy

    @property
    def area(self) -> float:
        """Of one face, repeated, A^2."""
        return self.slab.area * len(self.atoms) / len(self.slab.atoms)


def check_slab(atoms: ase.Atoms) -> None:
    """Refuse what is no slab.

    Raises:
        ValueError: it is not periodic along its first two axes, or has no vacuum along the third.
    """
    if not (atoms.pbc[0] and atoms.pbc[1]):
        raise ValueError(f"a slab is periodic along its first two axes, pbc is {atoms.pbc.tolist()}")
    if atoms.pbc[2]:
        a, b, c = atoms.cell.array
        height = abs(np.dot(np.cross(a, b), c)) / np.linalg.norm(np.cross(a, b))
        if height - thickness_of(atoms) < LEAST_VACUUM:
            raise ValueError(
                f"a slab has a vacuum of {LEAST_VACUUM:g} A and more along its third axis; "
                "of a crystal, say by its Miller indices where it is cut"
            )


def given_slab(atoms: ase.Atoms, settings: SlabSettings) -> Slab:
    """A slab of a file; what it fixes stays fixed, otherwise what the settings say."""
    slab = upright(atoms, settings.vacuum)
    if not slab.constraints:
        hold(slab, settings.hold, settings.held)
    return Slab(slab, None, 1, same_faces(slab))


def bases(
    structures: Sequence[ase.Atoms], engine: Engine, settings: SlabSettings, cutting: bool, length: float, start: Start
) -> Iterator[tuple[int, list[Base] | Failure]]:
    """Clean slabs of each structure at their minima: of crystals, where they are cut, or of slabs.

    Args:
        length: A, between the edges of what they are repeated to, at least.
    """
    slabs = dict[int, list[Slab]]()
    for index, found in minima(structures, engine, start) if cutting else enumerate(structures):
        try:
            slabs[index] = _cut(found, settings) if cutting else [given_slab(_atoms(found), settings)]
        except ValueError as error:
            yield index, Failure(str(error))
    groups = {index: [slab.atoms for slab in some] for index, some in slabs.items()}
    for index, relaxed in relaxed_groups(groups, engine, RelaxSettings(start.fmax, start.steps)):
        try:
            clean = [_relaxed(slab, each, start.fmax) for slab, each in zip(slabs[index], relaxed, strict=True)]
        except ValueError as error:
            yield index, Failure(str(error))
            continue
        wide = engine.evaluate([widened(slab.atoms, length) for slab in clean])
        yield index, [Base(slab, atoms) for slab, atoms in zip(clean, wide, strict=True)]


def widened(slab: ase.Atoms, length: float) -> ase.Atoms:
    """Repeated until opposite edges are that far apart (A)."""
    heights = 1 / np.linalg.norm(slab.cell.reciprocal().array, axis=1)
    counts = np.maximum(np.ceil(length / heights - 1e-6).astype(int), 1)
    return slab.repeat((int(counts[0]), int(counts[1]), 1))


def _atoms(found: ase.Atoms | Failure) -> ase.Atoms:
    """
    Raises:
        ValueError: there are none.
    """
    if isinstance(found, Failure):
        raise ValueError(found.reason)
    return found


def _cut(found: ase.Atoms | Failure, settings: SlabSettings) -> list[Slab]:
    return cut(conventional_cell(_atoms(found)), settings)


def _relaxed(slab: Slab, each: Relaxation, fmax: float) -> Slab:
    atoms = found_minimum(each, fmax)
    if isinstance(atoms, Failure):
        raise ValueError(f"the clean slab {atoms.reason}")
    return Slab(atoms, slab.miller, slab.termination, slab.same_faces)
