"""Backbone atoms from frames, frames from backbone atoms, and torsions.

A residue is a frame: a rotation R, as a unit quaternion, and the place x of its CA. Its atoms stand where

    N = x + R n,   CA = x,   C = x + R c        with the ideal n and c of `IDEAL`

R comes from the atoms by Gram-Schmidt, with the first axis along CA -> C and the second towards N (Jumper et al.,
Nature 596, 583, 2021, supplement, algorithm 21). The carbonyl O lies in the plane of CA, C and the N that follows.

| bond | Angstrom | angle | degrees |
|---|---|---|---|
| N-CA | 1.459 | N-CA-C | 111.0 |
| CA-C | 1.525 | CA-C-N | 116.6 |
| C-N | 1.336 | C-N-CA | 121.7 |
| C=O | 1.229 | CA-C=O | 120.1 |

(Engh and Huber, International Tables for Crystallography F, chapter 18.3, 2001: residues that are neither Gly nor Pro.
Their CA-C-N is 117.2; 116.6 is the mean of 160 X-ray chains, and puts neighbouring CA 3.80 apart, as these have it.)
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from atomsml.generative.core.rotations import matrix_to_quaternion, quaternion_to_matrix

ATOMS = ("N", "CA", "C", "O")  # of a residue, in the order of every array of coordinates
N_CA, CA_C, C_N, C_O = 1.459, 1.525, 1.336, 1.229  # Angstrom
N_CA_C, CA_C_N, C_N_CA, CA_C_O = (math.radians(angle) for angle in (111.0, 116.6, 121.7, 120.1))
CA_CA = 3.80  # of neighbours, by a trans peptide bond; 2.95 by a cis one
IDEAL = {"N": (N_CA * math.cos(N_CA_C), N_CA * math.sin(N_CA_C), 0.0), "C": (CA_C, 0.0, 0.0)}  # in the frame
LAST_PSI = math.radians(135)  # the torsion psi that the last residue is given, as of a strand: nothing decides it


def frames_of(coordinates: Tensor) -> tuple[Tensor, Tensor]:
    """Unit quaternions (..., 4) and places (..., 3) of the frames of atoms (..., 3 or 4, 3), N, CA and C first.

    The rotation of atoms that lie on one line is not defined and comes out not finite.
    """
    n, ca, c = coordinates[..., 0, :], coordinates[..., 1, :], coordinates[..., 2, :]
    x = _unit(c - ca)
    y = _unit(n - ca - (x * (n - ca)).sum(dim=-1, keepdim=True) * x)
    matrices = torch.stack([x, y, torch.linalg.cross(x, y)], dim=-1)
    return matrix_to_quaternion(matrices), ca


def atoms_of(quaternions: Tensor, positions: Tensor) -> Tensor:
    """Atoms (..., residues, 4, 3), N, CA, C and O with ideal geometry, of the frames of one chain (..., residues).

    The O of the last residue stands as if its psi were `LAST_PSI`.
    """
    matrices = quaternion_to_matrix(quaternions)
    n, c = (positions + matrices @ positions.new_tensor(IDEAL[name]) for name in ("N", "C"))
    return torch.stack([n, positions, c, oxygens_of(matrices, n, positions, c)], dim=-2)


def oxygens_of(matrices: Tensor, n: Tensor, ca: Tensor, c: Tensor) -> Tensor:
    """Places (..., residues, 3) of O, of the other atoms and of the rotations (..., residues, 3, 3) of one chain.

    The O of the last residue stands as if its psi were `LAST_PSI`.
    """
    turn = c.new_tensor(
        [-math.cos(CA_C_N), math.sin(CA_C_N) * math.cos(LAST_PSI), math.sin(CA_C_N) * math.sin(LAST_PSI)]
    )
    after_last = c[..., -1:, :] + C_N * matrices[..., -1:, :, :] @ turn
    return carbonyl(ca, c, torch.cat([n[..., 1:, :], after_last], dim=-2))


def torsions(coordinates: Tensor) -> Tensor:
    """(..., residues, 3) phi, psi and omega, in radians, of the atoms (..., residues, 3 or 4, 3) of one chain.

    omega is the one of the bond to the next residue; what an end lacks is NaN. Signs are those of IUPAC (1969).
    """
    n, ca, c = coordinates[..., 0, :], coordinates[..., 1, :], coordinates[..., 2, :]
    here, following = slice(None, -1), slice(1, None)
    none = n.new_full((*n.shape[:-2], 1), torch.nan)
    phi = _torsion(c[..., here, :], n[..., following, :], ca[..., following, :], c[..., following, :])
    psi = _torsion(n[..., here, :], ca[..., here, :], c[..., here, :], n[..., following, :])
    omega = _torsion(ca[..., here, :], c[..., here, :], n[..., following, :], ca[..., following, :])
    columns = torch.cat([none, phi], -1), torch.cat([psi, none], -1), torch.cat([omega, none], -1)
    return torch.stack(columns, dim=-1)


def carbonyl(ca: Tensor, c: Tensor, next_n: Tensor) -> Tensor:
    """Places of O, on the side of C that is away from CA and the next N."""
    back = _unit(ca - c)
    onward = next_n - c
    aside = _unit(onward - (back * onward).sum(dim=-1, keepdim=True) * back)
    return c + C_O * (math.cos(CA_C_O) * back - math.sin(CA_C_O) * aside)


def _torsion(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """(...,) the angle of the bonds a-b and c-d about b-c: positive where, seen from b, the far one is clockwise."""
    axis = _unit(c - b)
    first, second = torch.linalg.cross(b - a, axis), torch.linalg.cross(axis, d - c)
    sine = (torch.linalg.cross(first, second) * axis).sum(dim=-1)
    return torch.atan2(sine, (first * second).sum(dim=-1))


def _unit(vectors: Tensor) -> Tensor:
    return vectors / torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
