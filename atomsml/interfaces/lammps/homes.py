"""Sums over all copies of an atom, at its owner: what processes know of their ghosts is sent home.

LAMMPS gives ghosts the id (tag) of their atom, but does not say who owns it. Process id % processes keeps the address
of each id. It is told and asked where LAMMPS has dealt the atoms out anew; then, each step, every process knows what to
send to whom.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Homes:
    """Of the ghosts of one process, until LAMMPS deals the atoms out anew; all processes make one at the same time.

    Args:
        tags: (own atoms + ghosts,) ids, own atoms first.

    Raises:
        ValueError: a ghost of an atom that nobody has.
    """

    def __init__(self, comm: Any, tags: Ints, own: int) -> None:
        self._comm, self._own = comm, own
        ghosts, self._atom_of_ghost = np.unique(tags[own:], return_inverse=True)
        owner, row = _owners(comm, tags[:own], ghosts)
        self._order = owner.argsort(kind="stable")
        self._sent = np.bincount(owner, minlength=comm.size)
        rows = comm.alltoall(_split(row[self._order], self._sent))
        self._received = np.array([len(x) for x in rows])
        self._rows = np.concatenate(rows)

    def sums(self, values: Floats) -> Floats:
        """(own atoms, columns) from the (own atoms + ghosts, columns) of every process."""
        columns = values.shape[1]
        of_ghosts = np.zeros((len(self._order), columns))
        np.add.at(of_ghosts, self._atom_of_ghost, values[self._own :])
        sent, received = of_ghosts[self._order], np.empty((len(self._rows), columns))
        self._comm.Alltoallv([sent, self._sent * columns, MPI.DOUBLE], [received, self._received * columns, MPI.DOUBLE])
        total = values[: self._own].copy()
        np.add.at(total, self._rows, received)
        return total


def _owners(comm: Any, own: Ints, ghosts: Ints) -> tuple[Ints, Ints]:
    """Process that owns each of the ghosts, and the place among its own atoms."""
    order, counts = _by_keeper(comm, own)
    told = comm.alltoall(_split(np.stack([own, np.arange(len(own))], axis=1)[order], counts))
    known = np.concatenate(told)
    owners = np.repeat(np.arange(comm.size), [len(x) for x in told])
    by_tag = known[:, 0].argsort()
    tags = known[by_tag, 0]
    order, counts = _by_keeper(comm, ghosts)
    answers = []
    for asked in comm.alltoall(_split(ghosts[order], counts)):
        place = np.searchsorted(tags, asked)
        if (place == len(tags)).any() or (tags[place] != asked).any():
            raise ValueError("LAMMPS has a ghost of an atom that no process owns: atoms were lost")
        answers.append(np.stack([owners[by_tag[place]], known[by_tag[place], 1]], axis=1))
    found = np.empty((len(ghosts), 2), dtype=np.int64)
    found[order] = np.concatenate(comm.alltoall(answers))
    return found[:, 0], found[:, 1]


def _by_keeper(comm: Any, tags: Ints) -> tuple[Ints, Ints]:
    keeper = tags % comm.size
    return keeper.argsort(kind="stable"), np.bincount(keeper, minlength=comm.size)


def _split(rows: Ints, counts: Ints) -> list[Ints]:
    return np.split(rows, counts.cumsum()[:-1])
