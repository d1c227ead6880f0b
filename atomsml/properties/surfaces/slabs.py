"""Slabs: crystals that are cut along planes of given Miller indices, by pymatgen's SlabGenerator.

All are stoichiometric. Where the planes of atoms are not all alike there are several terminations, and where no
symmetry exchanges the two faces of a slab these differ.
"""

from __future__ import annotations

from dataclasses import dataclass

import ase
import numpy as np
from ase.constraints import FixAtoms
from ase.geometry import minkowski_reduce
from pymatgen.core.surface import SlabGenerator, get_symmetrically_distinct_miller_indices
from pymatgen.io.ase import AseAtomsAdaptor

from atomsml.properties.conventional import same_faces

Miller = tuple[int, int, int]
HOLDS = ("none", "middle", "bottom")


@dataclass(frozen=True)
class SlabSettings:
    """Which slabs.

    Raises:
        ValueError: indices that are none, lengths that are not positive, an unknown word.
    """

    miller: tuple[Miller, ...] = ()  # of the conventional cell; none: all up to `max_index` that symmetry leaves
    max_index: int = 1
    thickness: float = 12.0  # A, at least, as the number of layers times their spacing
    vacuum: float = 15.0  # A, between a slab and the next in the cell; slabs are open, so models do not see it
    hold: str = "none"  # which part keeps its positions, of HOLDS
    held: float = 0.5  # how much of the thickness it is

    def __post_init__(self) -> None:
        if (0, 0, 0) in self.miller:
            raise ValueError("the Miller indices 0,0,0 are of no plane")
        if not 1 <= self.max_index <= 4:
            raise ValueError(f"the largest index is between 1 and 4, got {self.max_index}")
        if not (0 < self.thickness < 1000 and 0 < self.vacuum < 1000):
            raise ValueError(f"thickness and vacuum are positive lengths, got {self.thickness} and {self.vacuum} A")
        if self.hold not in HOLDS:
            raise ValueError(f"unknown part {self.hold!r} of a slab; there are {', '.join(HOLDS)}")
        if not 0 < self.held < 1:
            raise ValueError(f"what is held is a fraction of the thickness between 0 and 1, got {self.held}")


@dataclass(frozen=True, eq=False)
class Slab:
    """A slab along the x-y plane: its third lattice vector is z, along which it is not periodic."""

    atoms: ase.Atoms
    miller: Miller | None  # None of a slab that was given and not cut
    termination: int  # which of this plane, from 1
    same_faces: bool

    @property
    def name(self) -> str:
        """Such as 110 or 1-10.2, of its indices and its termination."""
        if self.miller is None:
            return "given"
        return "".join(map(str, self.miller)) + (f".{self.termination}" if self.termination > 1 else "")

    @property
    def area(self) -> float:
        """Of one face, A^2."""
        return float(np.linalg.norm(np.cross(self.atoms.cell[0], self.atoms.cell[1])))

    @property
    def thickness(self) -> float:
        """A, from the lowest atom to the highest."""
        return thickness_of(self.atoms)


def planes(crystal: ase.Atoms, max_index: int) -> list[Miller]:
    """Miller indices up to the largest that no symmetry of a conventional cell maps on each other."""
    structure = AseAtomsAdaptor.get_structure(crystal)
    return [(int(h), int(k), int(l)) for h, k, l in get_symmetrically_distinct_miller_indices(structure, max_index)]


def cut(crystal: ase.Atoms, settings: SlabSettings) -> list[Slab]:
    """All slabs of a crystal in its conventional cell: of each plane all terminations.

    Raises:
        ValueError: a slab that is not made of whole formula units.
    """
    slabs = []
    for miller in settings.miller or planes(crystal, settings.max_index):
        generator = SlabGenerator(
            AseAtomsAdaptor.get_structure(crystal), miller, settings.thickness, settings.vacuum, primitive=True
        )
        h, k, l = map(int, generator.miller_index)
        for number, found in enumerate(generator.get_slabs(), 1):
            slab = AseAtomsAdaptor.get_atoms(found, msonable=False)
            atoms = upright(ase.Atoms(slab.numbers, slab.positions, cell=slab.cell.array, pbc=True), settings.vacuum)
            _check_whole(atoms, crystal, (h, k, l))
            faces = same_faces(atoms)
            hold(atoms, settings.hold, settings.held)
            slabs.append(Slab(atoms, (h, k, l), number, faces))
    return slabs


def upright(slab: ase.Atoms, vacuum: float) -> ase.Atoms:
    """The same slab in the shortest cell, its face along x-y, with that much vacuum (A), and open along z."""
    atoms = slab.copy()
    normal = normal_of(atoms)
    atoms.positions = _in_one_piece(atoms)
    height = np.ptp(atoms.positions @ normal) + vacuum
    a, b, c = minkowski_reduce([*atoms.cell.array[:2], height * normal], pbc=[True, True, False])[0]
    atoms.cell[:] = [a, b, c if np.dot(np.cross(a, b), c) > 0 else -c]
    across = np.dot(a, b) / np.linalg.norm(a)
    along = np.linalg.norm(np.cross(a, b)) / np.linalg.norm(a)
    atoms.set_cell([[np.linalg.norm(a), 0, 0], [across, along, 0], [0, 0, height]], scale_atoms=True)
    atoms.pbc = [True, True, False]
    atoms.wrap()
    atoms.center(axis=2)
    return atoms


def thickness_of(slab: ase.Atoms) -> float:
    """A, from the lowest atom to the highest, of a slab that may lie across the boundary of its cell."""
    return float(np.ptp(_in_one_piece(slab) @ normal_of(slab)))


def normal_of(slab: ase.Atoms) -> np.ndarray:
    """(3,) of length 1."""
    product = np.cross(slab.cell[0], slab.cell[1])
    return np.asarray(product / np.linalg.norm(product))


def _in_one_piece(atoms: ase.Atoms) -> np.ndarray:
    """Positions (A) of a slab, so that its largest gap along the normal is between its faces."""
    if not atoms.pbc[2]:
        return atoms.positions.copy()
    c, normal = atoms.cell.array[2], normal_of(atoms)
    fractions = atoms.positions @ normal / (c @ normal) % 1
    order = np.sort(fractions)
    gaps = np.diff(order, append=order[0] + 1)
    bottom = order[(np.argmax(gaps) + 1) % len(order)]
    shift = np.floor(atoms.positions @ normal / (c @ normal) - bottom + 1e-9)
    return np.asarray(atoms.positions - shift[:, None] * c)


def hold(atoms: ase.Atoms, part: str, share: float) -> None:
    """Fix that share of the thickness of a slab, of HOLDS; constraints that there are stay where part is none."""
    if part == "none":
        return
    z = atoms.positions[:, 2]
    depth = (z - z.min()) / max(np.ptp(z), 1e-9)
    inside = depth <= share + 1e-6 if part == "bottom" else np.abs(depth - 0.5) <= share / 2 + 1e-6
    atoms.set_constraint(FixAtoms(mask=inside))


def _check_whole(slab: ase.Atoms, crystal: ase.Atoms, miller: Miller) -> None:
    counts, unit = slab.symbols.formula.count(), crystal.symbols.formula.count()
    ratios = {element: counts.get(element, 0) / number for element, number in unit.items()}
    if len({round(ratio * len(crystal), 6) for ratio in ratios.values()}) != 1:
        raise ValueError(f"the slab {miller} is {slab.symbols}, not made of whole units of {crystal.symbols}")
