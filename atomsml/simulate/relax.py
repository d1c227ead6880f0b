"""Relax atoms, and optionally their cell, to the nearest minimum of the energy.

One structure moves by the optimizers of ase_optimizers.py, many in batches by those of optimizers/. A relaxed cell goes
through ASE's FrechetCellFilter, whose variables are positions and the logarithm of the deformation gradient, so that
the cell may change shape and volume; `fmax` then bounds the largest force and every row of volume * stress / atoms.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import ase
import numpy as np
from ase.filters import FrechetCellFilter

from atomsml.geometry import ImpossibleGeometry
from atomsml.simulate.optimizers.ase_optimizers import ASE_OPTIMIZERS as OPTIMIZERS

# eV: without a line search, LBFGS may climb to a saddle point, where forces vanish as well; the noise of a network in
# float32 is well below this
LARGEST_RISE = 1e-2


@dataclass(frozen=True)
class RelaxSettings:
    """How to relax.

    Raises:
        ValueError: `fmax` or `steps` not positive, an unknown optimizer.
    """

    fmax: float = 0.05  # eV/A: converged when no force is larger
    steps: int = 300  # give up after so many
    cell: bool = False  # relax the cell as well
    optimizer: str = "lbfgs"  # a key of OPTIMIZERS

    def __post_init__(self) -> None:
        if not (math.isfinite(self.fmax) and self.fmax > 0):
            raise ValueError(f"fmax must be a positive number of eV/A, got {self.fmax}")
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"unknown optimizer {self.optimizer!r}; there are {', '.join(OPTIMIZERS)}")

    def check(self, atoms: ase.Atoms) -> None:
        """Refuse atoms that cannot be relaxed in this way.

        Raises:
            ValueError: a cell to be relaxed that is not periodic along all three axes.
        """
        if self.cell and not atoms.pbc.all():
            raise ValueError(
                f"relaxing the cell needs a crystal that is periodic along all three axes, pbc is {atoms.pbc.tolist()}"
            )


Reason = Literal["running", "converged", "out of steps", "energy rose", "energy or forces are not finite"]


@dataclass(frozen=True)
class RelaxState:
    """Where a relaxation stands after a step; the last one is its result.

    "energy rose" is a point where forces vanish but which lies above the start: a saddle point, no minimum.
    """

    step: int
    energy: float  # eV
    fmax: float  # eV/A, what settings.fmax bounds
    reason: Reason

    @property
    def converged(self) -> bool:
        return self.reason == "converged"


def relax(atoms: ase.Atoms, settings: RelaxSettings | None = None) -> RelaxState:
    """Relax `atoms`, which must have a calculator, in place, and say how it ended.

        >>> from ase.build import molecule
        >>> from atomsml import AtomsMLCalculator
        >>> from atomsml.simulate.relax import RelaxSettings, relax
        >>> atoms = molecule("CH3CH2OH")
        >>> atoms.calc = AtomsMLCalculator("organic-xtb")
        >>> relax(atoms, RelaxSettings(fmax=0.05)).converged
        True

    Raises:
        ValueError: atoms that `settings.check` refuses.
    """
    *_, last = iterate_relax(atoms, settings or RelaxSettings())
    return last


def iterate_relax(atoms: ase.Atoms, settings: RelaxSettings) -> Iterator[RelaxState]:
    """Relax `atoms` in place, yielding a state before the first and after every step.

    Raises:
        ValueError: atoms that `settings.check` refuses.
    """
    settings.check(atoms)
    target = FrechetCellFilter(atoms) if settings.cell else atoms
    dynamics = OPTIMIZERS[settings.optimizer].start(target)
    start = float(atoms.get_potential_energy())
    steps = dynamics.irun(fmax=settings.fmax, steps=settings.steps)
    while True:
        try:
            converged = next(steps)
        except ImpossibleGeometry:
            yield RelaxState(dynamics.nsteps, math.nan, math.nan, "energy or forces are not finite")
            return
        energy = float(atoms.get_potential_energy())
        fmax = float(np.linalg.norm(target.get_forces(), axis=1).max())
        reason: Reason = "running"
        if not (math.isfinite(energy) and math.isfinite(fmax)):
            reason = "energy or forces are not finite"
        elif converged:
            reason = "converged" if energy < start + LARGEST_RISE else "energy rose"
        elif dynamics.nsteps == settings.steps:
            reason = "out of steps"
        yield RelaxState(dynamics.nsteps, energy, fmax, reason)
        if reason != "running":
            return
