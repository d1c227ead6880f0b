"""What LAMMPS calls each step: forces on the atoms of this process, and of the whole system energy and virial.

With E_i the energies of the atoms of this process, F the forces of their sum on local atoms and ghosts, and K members
of a committee, all processes together have

    E = sum of E_i        f_j = sum over all copies of atom j of F        W = -dE/dstrain

and the standard deviations over the members, sqrt(sum_k (x_k - mean)^2 / (K - 1)). LAMMPS wants E and W of all
processes from each of them. W is in eV and positive under pressure.
"""

from __future__ import annotations

import os
import sys
import traceback
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mpi4py import MPI
from numpy.typing import NDArray

from atomsml.errors import explained
from atomsml.geometry import ImpossibleGeometry
from atomsml.interfaces.lammps.halo import Atoms, Halo
from atomsml.interfaces.lammps.homes import Homes
from atomsml.interfaces.lammps.launch import ERRORS
from atomsml.potential import Potential
from atomsml.programs.predictor import PlannedPredictor
from atomsml.region import Region, RegionPrediction, RegionPredictor, evaluate_region

FIX = "atomsml"  # the id of the fix
VIRIAL = ([0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2])  # xx yy zz xy xz yz


class Members:
    """The potentials that are asked: one, or those of a committee."""

    def __init__(self, potentials: list[Potential], exact: bool) -> None:
        self.cutoff = max(potential.cutoff for potential in potentials)
        self._hops = [potential.hops() for potential in potentials]
        self.hops = max(self._hops)
        self.reach = self.hops * self.cutoff
        self._predict = [_region_predictor(potential, exact) for potential in potentials]

    def __len__(self) -> int:
        return len(self._predict)

    def __call__(self, region: Region) -> list[RegionPrediction]:
        return [predict(region.within(hops)) for predict, hops in zip(self._predict, self._hops, strict=True)]


def _region_predictor(potential: Potential, exact: bool) -> RegionPredictor:
    program = potential.predictor(exact)
    return program.of_region if isinstance(program, PlannedPredictor) else partial(evaluate_region, potential)


class Callback:
    """Of one process; `lammps.lammps.set_fix_external_callback` is given it.

    An exception ends all processes, with its message: LAMMPS would go on with the forces of the last step.

    Args:
        numbers: (types + 1,) atomic number of each type of LAMMPS, which counts from 1.
    """

    def __init__(self, lammps: Any, comm: Any, members: Members, halo: Halo, numbers: NDArray[np.int64]) -> None:
        self._lammps, self._comm, self._members, self._halo = lammps, comm, members, halo
        self._numbers = numbers
        self._homes: Homes | None = None
        self.worst = (0.0, 0.0, 0)  # standard deviations of a committee: of energy and of a force, at which step

    def __call__(self, caller: Any, step: int, own: int, tags: Any, x: Any, forces: NDArray[np.float64]) -> None:
        try:
            self._fill(step, own, forces)
        except BaseException as error:
            end_all(self._comm, error, f"step {step}")

    def _fill(self, step: int, own: int, forces: NDArray[np.float64]) -> None:
        lammps = self._lammps
        atoms = own + lammps.extract_global("nghost")
        tags = lammps.numpy.extract_atom("id", nelem=atoms).astype(np.int64)
        new = self._homes is None or lammps.extract_setting("neigh_ago") == 0
        if new:
            self._homes = Homes(self._comm, tags, own)
        assert self._homes is not None
        members = len(self._members)
        energies, columns = np.zeros((members, own)), np.zeros((atoms, 3 * members + 6))
        virial = np.zeros((3, 3))
        if own > 0:
            x, types = (lammps.numpy.extract_atom(name, nelem=atoms) for name in ("x", "type"))
            given = Atoms(x, self._numbers[types], tags, *_box(lammps))
            region, order = self._halo.region(given, own, new)
            places, found = order.numpy(force=True), self._members(region)
            energies = np.stack([one.atom_energies.numpy(force=True) for one in found]).astype(np.float64)
            pushes = np.stack([one.forces.numpy(force=True) for one in found]).astype(np.float64)
            columns[places, : 3 * members] = pushes.transpose(1, 0, 2).reshape(len(places), -1)
            columns[places, 3 * members :] = _atom_virials(found)
            virial = -torch.stack([one.virial for one in found]).double().mean(dim=0).numpy(force=True)
        self._tell(step, energies, self._homes.sums(columns), virial[VIRIAL], forces)

    def _tell(
        self,
        step: int,
        energies: NDArray[np.float64],
        home: NDArray[np.float64],
        virial: NDArray[np.float64],
        forces: NDArray[np.float64],
    ) -> None:
        """Energies (members, own atoms), and of own atoms the forces of each member, and mean virials."""
        lammps, members = self._lammps, len(self._members)
        pushes = home[:, : 3 * members].reshape(len(home), members, 3)
        totals = self._comm.allreduce(np.concatenate([energies.sum(axis=1), virial]))
        if not (np.isfinite(totals).all() and np.isfinite(pushes).all()):
            raise ImpossibleGeometry("the model gives no finite energy and forces; do atoms overlap?")
        forces[:] = pushes.mean(axis=1)
        lammps.fix_external_set_energy_global(FIX, float(totals[:members].mean()))
        lammps.fix_external_set_virial_global(FIX, totals[members:].tolist())
        if len(home):
            lammps.numpy.fix_external_set_energy_peratom(FIX, energies.mean(axis=0))
            lammps.numpy.fix_external_set_virial_peratom(FIX, np.ascontiguousarray(home[:, 3 * members :]))
        if members > 1:
            largest = np.linalg.norm(pushes.std(axis=1, ddof=1), axis=1).max(initial=0.0)
            deviations = float(totals[:members].std(ddof=1)), float(self._comm.allreduce(largest, MPI.MAX))
            for i, deviation in enumerate(deviations, 1):
                lammps.fix_external_set_vector(FIX, i, deviation)
            if deviations[1] > self.worst[1]:
                self.worst = (*deviations, step)


def _box(lammps: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cell (3, 3) A, whose rows are vectors, and its lower corner (3,)."""
    low, high, xy, yz, xz, _, _ = lammps.extract_box()
    lengths = np.subtract(high, low)
    return np.array([[lengths[0], 0.0, 0.0], [xy, lengths[1], 0.0], [xz, yz, lengths[2]]]), np.array(low)


def _atom_virials(found: list[RegionPrediction]) -> NDArray[np.float64]:
    """(atoms, 6) eV, means over members; NaN where one of them does not know, so that LAMMPS does not make one up."""
    known = [-one.atom_virials for one in found if one.atom_virials is not None]
    if len(known) < len(found):
        return np.full((len(found[0].forces), 6), np.nan)
    mean = torch.stack(known).mean(dim=0).numpy(force=True)
    return np.asarray(mean[:, VIRIAL[0], VIRIAL[1]], dtype=np.float64)


def end_all(comm: Any, error: BaseException, where: str) -> None:
    """End all processes, after a line that says why, or the traceback of what is a defect.

    It goes to a file that whoever started the processes reads: what they last wrote to stderr may be lost with them.
    """
    words = explained(error) if isinstance(error, Exception) else None
    lines = f"process {comm.rank} of {comm.size}, {where}: {words or repr(error)}\n"
    if words is None:
        lines += "".join(traceback.format_exception(error))
    if ERRORS in os.environ:
        with open(Path(os.environ[ERRORS]) / str(comm.rank), "a") as file:
            file.write(lines)
    else:
        print(f"error: {lines}", end="", file=sys.stderr, flush=True)
    comm.Abort(1)
