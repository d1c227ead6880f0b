"""Vibrations of molecules, and of atoms on others that are held: harmonic frequencies, normal modes, infrared spectra.

With the Hessian H, masses m and the projector Q on what is neither translation nor rotation,

    Q^T M^-1/2 H M^-1/2 Q u = omega^2 u,    normal mode = M^-1/2 Q u,    intensity = N_A / (12 eps0 c^2) |d mu / dQ|^2

(Wilson, Decius and Cross, Molecular Vibrations, 1955). Where atoms are held nothing is projected.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import ase
import numpy as np
from ase import units
from ase.constraints import FixAtoms
from numpy.typing import NDArray

from atomsml.properties.engine import Engine
from atomsml.properties.hessian import Derivatives, derivatives, moving_atoms
from atomsml.properties.task import Failure, Start, minima

Array = NDArray[np.float64]

WAVENUMBER = float(np.sqrt(units._e / units._amu) * 1e10 / (2 * np.pi * units._c * 100))  # cm^-1 of sqrt(eV/A^2/u)
KM_PER_MOL = float(  # of e^2/u
    units._Nav * units._e**2 / (12 * units._eps0 * units._c**2 * units._amu) / 1000
)
LINEAR = 1e-3  # a molecule is straight where its smallest moment of inertia is less of the largest


@dataclass(frozen=True, eq=False)
class Vibrations:
    """At a stationary point; M atoms are not held."""

    atoms: ase.Atoms
    frequencies: Array  # (modes,) cm^-1, ascending; what is imaginary is negative
    modes: Array  # (modes, atoms, 3) directions in which atoms move, of length 1
    intensities: Array | None  # (modes,) km/mol; None: the model has no dipoles
    removed: int  # translations and rotations

    @property
    def imaginary(self) -> Array:
        """cm^-1, positive."""
        return -self.frequencies[self.frequencies < 0]

    @property
    def energies(self) -> Array:
        """eV, of the modes that are not imaginary."""
        return self.frequencies[self.frequencies >= 0] * units.invcm

    @property
    def zero_point_energy(self) -> float:
        """eV."""
        return float(self.energies.sum() / 2)


def check(atoms: ase.Atoms) -> None:
    """
    Raises:
        ValueError: a crystal in which no atom is held, or constraints other than FixAtoms.
    """
    moving_atoms(atoms)
    if atoms.pbc.any() and not atoms.constraints:
        raise ValueError(
            "is periodic and no atom is held: crystals have phonons (`atomsml phonons`); of an adsorbate, hold the slab"
        )


def vibrations(
    structures: Sequence[ase.Atoms], engine: Engine, start: Start | None = None
) -> Iterator[tuple[int, Vibrations | Failure]]:
    """Of each structure, by its place in the list.

        >>> from ase.build import molecule
        >>> from atomsml import AtomsMLCalculator
        >>> from atomsml.properties.engine import Engine
        >>> from atomsml.properties.vibrations import vibrations
        >>> engine = Engine.of(AtomsMLCalculator("organic-xtb"))
        >>> [(_, water)] = vibrations([molecule("H2O")], engine)
        >>> len(water.frequencies), water.removed
        (3, 6)

    Raises:
        ValueError: a structure that `check` refuses.
    """
    for atoms in structures:
        check(atoms)
    places, found = [], []
    for index, minimum in minima(structures, engine, start or Start(fmax=0.001)):
        if isinstance(minimum, Failure):
            yield index, minimum
        else:
            places.append(index)
            found.append(minimum)
    for i, each in derivatives(found, engine):
        yield places[i], each if isinstance(each, Failure) else of_derivatives(found[i], each)


def of_derivatives(atoms: ase.Atoms, found: Derivatives) -> Vibrations:
    """Frequencies and modes of a structure at a stationary point."""
    moving = moving_atoms(atoms)
    scale = 1 / np.sqrt(np.repeat(atoms.get_masses()[moving], 3))
    rigid = np.zeros((len(scale), 0)) if len(moving) < len(atoms) or atoms.pbc.any() else rigid_motions(atoms)
    rest = np.linalg.svd(rigid, full_matrices=True)[0][:, rigid.shape[1] :]  # orthogonal to all rigid motions
    squares, vectors = np.linalg.eigh(rest.T @ (scale[:, None] * found.hessian * scale) @ rest)
    normal = (scale[:, None] * (rest @ vectors)).T  # (modes, 3M), of unit reduced mass
    intensities = None
    if found.dipole is not None:
        intensities = KM_PER_MOL * np.square(normal @ found.dipole).sum(axis=1)
    modes = np.zeros((len(normal), len(atoms), 3))
    modes[:, moving] = (normal / np.linalg.norm(normal, axis=1, keepdims=True)).reshape(len(normal), len(moving), 3)
    frequencies = WAVENUMBER * np.sign(squares) * np.sqrt(np.abs(squares))
    return Vibrations(atoms, frequencies, modes, intensities, rigid.shape[1])


def rigid_motions(atoms: ase.Atoms) -> Array:
    """(3N, 6) orthonormal mass-weighted translations and rotations; 5 of a straight molecule, 3 of an atom."""
    weights = np.sqrt(atoms.get_masses())
    arms = atoms.positions - atoms.get_center_of_mass()
    shifts = [np.outer(weights, axis).ravel() for axis in np.eye(3)]
    turns = [(weights[:, None] * np.cross(axis, arms)).ravel() for axis in _axes(atoms)]
    return np.linalg.qr(np.array([*shifts, *turns]).T)[0]


def _axes(atoms: ase.Atoms) -> Array:
    """(axes, 3) about which turning the atoms changes anything: principal axes with a moment of inertia."""
    moments, axes = atoms.get_moments_of_inertia(vectors=True)
    largest = float(moments.max())
    return axes[moments > LINEAR * largest] if largest > 0 else np.zeros((0, 3))


def is_linear(atoms: ase.Atoms) -> bool:
    """Whether atoms, more than one, stand in a line."""
    return len(_axes(atoms)) == 2


def holds_atoms(atoms: ase.Atoms) -> bool:
    return any(isinstance(each, FixAtoms) for each in atoms.constraints)
