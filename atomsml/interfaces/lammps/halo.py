"""The region around the atoms of one process, from step to step.

Ghosts are copies at their places, those of periodic images among them. Which are near is asked without a cell, so that
a halo that is longer than the cell is nothing special.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atomsml.region import Copies, Region

SKIN = 0.5  # A: how much farther than the cutoff the list of neighbours reaches, to serve several steps


@dataclass(frozen=True)
class Atoms:
    """Own atoms and ghosts of a process."""

    x: NDArray[np.float64]  # (atoms, 3) A
    numbers: NDArray[np.int64]  # (atoms,) atomic numbers
    tags: NDArray[np.int64]  # (atoms,) ids, which copies of an atom share
    cell: NDArray[np.float64]  # (3, 3) A
    low: NDArray[np.float64]  # (3,) A, its lower corner


class Halo:
    """Keeps the neighbour list as long as it is right.

    Args:
        margin: A: how much farther ghosts reach than the network, so that a local atom and a ghost may come so much
            nearer to each other before ghosts that were left out may matter.
    """

    def __init__(self, cutoff: float, hops: int, margin: float, device: torch.device, dtype: torch.dtype) -> None:
        self.cutoff, self.hops, self.margin = cutoff, hops, margin
        self._device, self._dtype = device, dtype
        self._dealt_out: Atoms | None = None  # when LAMMPS chose the ghosts
        self._listed = np.empty((0, 3))  # positions when the neighbours were found
        self._region: Region | None = None
        self._order = torch.empty(0, dtype=torch.int64)
        self.rebuilds = 0  # of the list

    def region(self, atoms: Atoms, own: int, new: bool) -> tuple[Region, Tensor]:
        """The region, and which of the atoms are in it.

        Args:
            atoms: own atoms first.
            new: whether LAMMPS has chosen the ghosts anew.

        Raises:
            ValueError: atoms have moved farther than LAMMPS should have let them before it chose ghosts anew.
            ImpossibleGeometry: two atoms in one place, or a position that is not finite.
        """
        x = atoms.x
        if new or self._dealt_out is None:
            self._dealt_out = replace(atoms, x=x.copy())
        nearer = self._nearer(atoms, self._dealt_out, own)
        if nearer > self.margin:
            raise ValueError(
                f"atoms may have come {nearer:.2f} A nearer to each other since LAMMPS chose the ghosts, which reach "
                f"{self.margin:g} A farther than needed; use `neigh_modify every 1 delay 0 check yes`, and the skin of "
                "`neighbor` as it was at pair_coeff"
            )
        origin = x[:own].mean(axis=0)  # positions far from zero lose digits where they are float32
        positions, cell = (torch.from_numpy(array).to(self._device, self._dtype) for array in (x - origin, atoms.cell))
        if new or self._region is None or np.linalg.norm(x - self._listed, axis=1).max() > SKIN / 2:
            numbers, tags = (torch.from_numpy(array).to(self._device) for array in (atoms.numbers, atoms.tags))
            copies = Copies(positions, numbers, tags, cell)
            self._region, self._order = Region.around(copies, own, self.cutoff + SKIN, self.hops)
            self._listed = x.copy()
            self.rebuilds += 1
        else:
            self._region = self._region.moved(positions[self._order], cell)
        return self._region, self._order

    def _nearer(self, now: Atoms, then: Atoms, own: int) -> float:
        """A: by how much a local atom and a ghost may have come nearer to each other, at distances that matter.

        Turned back by B to the cell that was, r_then <= |B r_now| + how far both moved in that cell.
        """
        back = np.linalg.solve(now.cell, then.cell)
        moved = np.linalg.norm((now.x - now.low) @ back + then.low - then.x, axis=1)
        stretch = float(np.linalg.norm(back, 2)) - 1.0
        reach = self.hops * self.cutoff
        return max(stretch, 0.0) * reach + float(moved[:own].max() + moved[own:].max(initial=0.0))
