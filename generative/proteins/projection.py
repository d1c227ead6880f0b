"""Projection: peptide bonds of ideal geometry, by as little movement of the frames as brings them.

A generator places frames nearly where peptide bonds close; this closes them. What goes to zero is, over the bonds of
residues i and i + 1 and over atoms of residues that are too near each other,

    r = ((|C - N'| - 1.336 A) / s_d, the same of CA - N' and of C - CA', which are the angles at C and at N',
         (omega - 180 degrees) / s_w)   and   (limit - |a_i - b_j|) / s_c   where that is positive and |i - j| > 2

which brings CA - CA' to 3.81 A. Steps are those of Levenberg and Marquardt (Nocedal and Wright, Numerical Optimization,
2006, section 10.3) over all frames of a chain,

    step = -(J^T J + damping W)^-1 J^T r,   with W of turns in units of TURN and of shifts in units of SHIFT

each the shortest that does what it does: phi, psi and with them the fold stay where nothing asks for another. Bonds
couple neighbours alone, so J^T J is block tridiagonal, and LAPACK solves for a step in a time linear in the length. Of
clashes, which couple up to four residues anywhere, only the diagonal blocks enter, four times, which bounds their
curvature from above. Limits are those by which clashes are judged (metrics/clashes.py), and MARGIN.

A bond is made trans unless it is drawn clearly cis (`_is_cis`): then omega goes to 0, and CA - CA' to 2.93 A.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from scipy.linalg import solveh_banded
from torch import Tensor

from atomsml.generative.core.rotations import quaternion_exp, quaternion_multiply, quaternion_to_matrix
from atomsml.generative.proteins.backbones import Backbones
from atomsml.generative.proteins.geometry import (
    C_N,
    C_N_CA,
    C_O,
    CA_C,
    CA_C_N,
    CA_C_O,
    IDEAL,
    atoms_of,
    carbonyl,
    torsions,
)
from atomsml.generative.proteins.metrics.clashes import APART, CA, CONTACT, ELEMENTS

CIS_CA_C_N, CIS_C_N_CA = math.radians(118.0), math.radians(126.3)  # medians of 63 cis bonds in 160 crystal structures
CIS_CA_CA = 2.93  # A
MARGIN = 0.1  # A, beyond which atoms are brought apart that clash
REACH = 8.0  # A: residues clash only if their CA are nearer
DISTANCE, TWIST, CLASH = 0.02, math.radians(3), 0.2  # A, rad, A: s_d, s_w and s_c
OXYGEN = 0.2  # A: the O of a held residue decides about psi alone, which nothing else does
SHIFT, TURN = 1.0, 0.5  # A, rad: a shift is as dear as a turn that moves atoms at 2 A as far
DAMPING = 1000.0  # of the first step; a quarter of it after a step that helped, four times it after one that did not
SOFTEST = 1e-3  # damping: something must decide about phi and psi
STEPS = 50  # at most; 15 are usual
# O = C + TO_CA (CA - C) + TO_N (N' - C), in the plane of the peptide bond
TO_N = -C_O * math.sin(CA_C_O) / (C_N * math.sin(CA_C_N))
TO_CA = (C_O * math.cos(CA_C_O) - TO_N * C_N * math.cos(CA_C_N)) / CA_C
STILL = 1e-5  # A or rad: a chain of which no frame moves farther in a step has arrived


def _limits() -> list[list[float]]:
    """A, between N, CA, C and O and the same of another residue."""
    limits = [[CONTACT["-".join(sorted(a + b))] + MARGIN for b in ELEMENTS] for a in ELEMENTS]
    limits[1][1] = CA + MARGIN
    return limits


LIMITS = _limits()


def close_chains(backbones: Backbones, held: Tensor, atoms: Tensor | None = None) -> tuple[Backbones, Tensor]:
    """The chains with ideal peptide bonds, and how far (samples,) their CA moved, root mean square, Angstrom.

    Each chain comes out as it would alone, in float64. One whose bonds are ideal and which does not clash stays. What
    cannot be closed, as between residues that are held too far apart, stays open: look at the result.

    Args:
        held: (samples, residues) bool, residues that do not move; a bond between two of them is theirs as well.
        atoms: (samples, residues, 4, 3) N, CA, C and O of the held residues, unless of ideal geometry as well: bonds
            close onto them, and the planes of their peptide bonds hold their O. Other rows do not matter.
    """
    problem = _Problem.of(backbones, held, atoms)
    quaternions, positions = problem.quaternions, problem.positions
    cost = problem.cost(quaternions, positions)
    damping = torch.full_like(cost, DAMPING)
    active = torch.ones_like(cost, dtype=torch.bool)
    for _ in range(STEPS):
        step = problem.step(quaternions, positions, damping, active)
        tried = quaternion_multiply(quaternions, quaternion_exp(step[..., :3])), positions + step[..., 3:]
        tried_cost = problem.cost(*tried)
        better = active & (tried_cost <= cost)
        quaternions = torch.where(better[:, None, None], tried[0], quaternions)
        positions = torch.where(better[:, None, None], tried[1], positions)
        cost = torch.where(better, tried_cost, cost)
        damping = torch.where(better, damping / 4, damping * 4).clamp(min=SOFTEST)
        active = active & (step.abs().amax(dim=(1, 2)) > STILL)
        if not active.any():
            break
    squares = ((positions - problem.positions) ** 2).sum(dim=(1, 2)) / problem.mask.sum(dim=1).clamp_min(1)
    where = backbones.mask.device
    return Backbones(quaternions, positions, problem.mask).to(where), squares.sqrt().to(where)


@dataclass(frozen=True)
class _Problem:
    """What goes to zero, for all chains of a batch at once; float64, on the CPU."""

    quaternions: Tensor  # (samples, residues, 4) as drawn
    positions: Tensor  # (samples, residues, 3)
    mask: Tensor  # (samples, residues) bool
    still: Tensor  # (samples, residues) bool: held, or padding
    places: Tensor  # (samples, residues, 3, 3) N, CA and C in the frames
    sample: Tensor  # (bonds,) the chain of each bond that there is
    first: Tensor  # (bonds,) its first residue
    wanted: _Wanted
    levers: _Levers

    @staticmethod
    def of(backbones: Backbones, held: Tensor, atoms: Tensor | None) -> _Problem:
        quaternions, positions, mask = (
            each.detach().cpu() for each in (backbones.quaternions, backbones.positions, backbones.mask)
        )
        quaternions, positions, held = quaternions.double(), positions.double(), held.cpu() & mask
        places = positions.new_tensor([IDEAL["N"], (0.0, 0.0, 0.0), IDEAL["C"]]).repeat(*mask.shape, 1, 1)
        sample, first = (mask[:, :-1] & mask[:, 1:]).nonzero(as_tuple=True)
        oxygens, holds = positions.new_zeros(len(first), 3), torch.zeros(len(first), dtype=torch.bool)
        if atoms is not None:
            atoms = atoms.cpu().double()
            local = (atoms[:, :, :3] - positions[:, :, None]) @ quaternion_to_matrix(quaternions)
            places = torch.where(held[..., None, None], local, places)
            oxygens, holds = atoms[sample, first, 3], held[sample, first] & ~held[sample, first + 1]
        seen = _atoms(quaternions, positions, places)[sample[:, None], first[:, None] + torch.arange(2)]
        wanted = _Wanted.of(seen, oxygens, holds)
        levers = _Levers.of(places, mask, held, positions, quaternions, atoms)
        return _Problem(quaternions, positions, mask, held | ~mask, places, sample, first, wanted, levers)

    def cost(self, quaternions: Tensor, positions: Tensor) -> Tensor:
        """(samples,) the sum of r^2."""
        residuals = _residuals(self._bonded(_atoms(quaternions, positions, self.places)), self.wanted)
        total = positions.new_zeros(len(self.mask)).index_add(0, self.sample, (residuals**2).sum(dim=1))
        clashes = self._clashes(quaternions, positions)
        return total.index_add(0, clashes.sample, clashes.overlap**2)

    def step(self, quaternions: Tensor, positions: Tensor, damping: Tensor, active: Tensor) -> Tensor:
        """(samples, residues, 6) turns in the frames and shifts; zero for what is still and for inactive chains."""
        count, length = self.mask.shape
        weights = positions.new_tensor([1 / TURN**2] * 3 + [1 / SHIFT**2] * 3)
        blocks = (damping[:, None, None, None] * torch.diag(weights)).repeat(1, length, 1, 1)
        below = torch.zeros_like(blocks)  # rows of the next residue, columns of this
        gradient = positions.new_zeros(count, length, 6)
        residuals, slopes = self._linearised(quaternions, positions)
        for side in (0, 1):
            slope, place = slopes[:, :, side], (self.sample, self.first + side)
            gradient.index_put_(place, (slope * residuals[..., None]).sum(dim=1), accumulate=True)
            blocks.index_put_(place, slope.transpose(1, 2) @ slope, accumulate=True)
        below[self.sample, self.first] = slopes[:, :, 1].transpose(1, 2) @ slopes[:, :, 0]
        self._add_clashes(quaternions, positions, gradient, blocks)
        gradient[self.still] = 0
        blocks[self.still] = torch.eye(6, dtype=blocks.dtype)
        below[self.still] = 0
        below[:, :-1][self.still[:, 1:]] = 0
        bands, step = _bands(blocks, below), torch.zeros_like(gradient)
        for chain in active.nonzero().ravel().tolist():
            solved = solveh_banded(bands[chain].numpy(), -gradient[chain].ravel().numpy(), lower=True)
            step[chain] = torch.from_numpy(solved).reshape(length, 6)
        return step

    def _linearised(self, quaternions: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """(bonds, 7) residuals, and (bonds, 7, 2, 6) their derivatives by turns and shifts of both residues."""
        matrices = self._bonded(quaternion_to_matrix(quaternions))
        atoms = self._bonded(_atoms(quaternions, positions, self.places))
        slopes = torch.func.vmap(torch.func.jacrev(_residuals))(atoms, self.wanted)
        local = slopes @ matrices[:, None]  # by the places of the atoms in the frames
        turns = torch.linalg.cross(self._bonded(self.places)[:, None].expand_as(local), local).sum(dim=-2)
        return _residuals(atoms, self.wanted), torch.cat([turns, slopes.sum(dim=-2)], dim=-1)

    def _bonded(self, values: Tensor) -> Tensor:
        """(bonds, 2, ...) the values (samples, residues, ...) of the two residues of each bond."""
        return values[self.sample[:, None], self.first[:, None] + torch.arange(2)]

    def _clashes(self, quaternions: Tensor, positions: Tensor) -> _Clashes:
        """Atoms that are too near, of residues of which one at least can move."""
        atoms = self.levers.atoms(quaternion_to_matrix(quaternions), positions)
        near = torch.cdist(positions, positions, compute_mode="donot_use_mm_for_euclid_dist") < REACH
        near &= self.mask[:, :, None] & self.mask[:, None] & ~(self.still[:, :, None] & self.still[:, None])
        sample, i, j = torch.triu(near, diagonal=APART + 1).nonzero(as_tuple=True)
        apart = atoms[sample, i][:, :, None] - atoms[sample, j][:, None]  # (pairs of residues, 4, 4, 3)
        limits = positions.new_tensor(LIMITS)
        pair, a, b = (apart.norm(dim=-1) < limits).nonzero(as_tuple=True)
        vectors = apart[pair, a, b]
        distances = vectors.norm(dim=-1, keepdim=True).clamp_min(1e-6)
        overlap = (limits[a, b] - distances[:, 0]) / CLASH
        return _Clashes(sample[pair], (i[pair], j[pair]), (a, b), overlap, -vectors / distances / CLASH)

    def _add_clashes(self, quaternions: Tensor, positions: Tensor, gradient: Tensor, blocks: Tensor) -> None:
        found, levers = self._clashes(quaternions, positions), self.levers
        matrices = quaternion_to_matrix(quaternions)
        for residue, atom, sign in zip(found.residues, found.atoms, (1, -1), strict=True):
            where = (found.sample, residue, atom)
            following = (residue + 1).clamp(max=self.mask.shape[1] - 1)
            for place, arm, share in (
                (residue, levers.arms[where], levers.shares[where]),
                (following, levers.next_arms[where], levers.next_shares[where]),
            ):
                turned = (matrices[found.sample, place].transpose(1, 2) @ (sign * found.slope)[..., None])[..., 0]
                slope = torch.cat([torch.linalg.cross(arm, turned), share[:, None] * sign * found.slope], dim=1)
                gradient.index_put_((found.sample, place), slope * found.overlap[:, None], accumulate=True)
                blocks.index_put_((found.sample, place), 4 * slope[:, :, None] * slope[:, None], accumulate=True)


class _Clashes(NamedTuple):
    """Pairs of atoms that are too near."""

    sample: Tensor  # (clashes,)
    residues: tuple[Tensor, Tensor]  # of both
    atoms: tuple[Tensor, Tensor]  # which of N, CA, C and O
    overlap: Tensor  # (clashes,) r
    slope: Tensor  # (clashes, 3) dr by the place of the first; minus that by the second


class _Levers(NamedTuple):
    """How N, CA, C and O of a residue hang on its frame, and its O on that of the next residue as well.

    An atom stands at R arm + share x + R' next_arm + next_share x', with R' and x' of the next residue.
    """

    arms: Tensor  # (samples, residues, 4, 3)
    shares: Tensor  # (samples, residues, 4)
    next_arms: Tensor  # (samples, residues, 4, 3)
    next_shares: Tensor  # (samples, residues, 4)

    @staticmethod
    def of(
        places: Tensor, mask: Tensor, held: Tensor, positions: Tensor, quaternions: Tensor, atoms: Tensor | None
    ) -> _Levers:
        hangs = torch.zeros_like(mask)  # whose O depends on the next residue
        hangs[:, :-1] = mask[:, 1:]
        n, _, c = places.unbind(dim=-2)
        alone = atoms_of(positions.new_tensor([[1.0, 0.0, 0.0, 0.0]]), positions.new_zeros(1, 3))[0, 3]
        oxygen = torch.where(hangs[..., None], (1 - TO_CA - TO_N) * c, alone)
        if atoms is not None:
            exact = ((atoms[:, :, 3] - positions)[:, :, None] @ quaternion_to_matrix(quaternions))[:, :, 0]
            oxygen, hangs = torch.where(held[..., None], exact, oxygen), hangs & ~held
        to_next = TO_N * hangs.to(places)
        next_n = torch.zeros_like(n)
        next_n[:, :-1] = n[:, 1:]
        nothing = torch.zeros_like(places)
        return _Levers(
            torch.cat([places, oxygen[:, :, None]], dim=2),
            torch.cat([torch.ones_like(places[..., 0]), 1 - to_next[..., None]], dim=2),
            torch.cat([nothing, (to_next[..., None] * next_n)[:, :, None]], dim=2),
            torch.cat([nothing[..., 0], to_next[..., None]], dim=2),
        )

    def atoms(self, matrices: Tensor, positions: Tensor) -> Tensor:
        """(samples, residues, 4, 3) of rotations (samples, residues, 3, 3) and places of CA."""
        here = self.arms @ matrices.transpose(-1, -2) + self.shares[..., None] * positions[:, :, None]
        matrices, positions = matrices.roll(-1, dims=1), positions.roll(-1, dims=1)
        return here + self.next_arms @ matrices.transpose(-1, -2) + self.next_shares[..., None] * positions[:, :, None]


class _Wanted(NamedTuple):
    """What is asked of bonds."""

    lengths: Tensor  # (bonds, 3) of C - N', CA - N' and C - CA', Angstrom
    omega: Tensor  # (bonds,) rad
    oxygens: Tensor  # (bonds, 3) where the O of a held residue is
    holds_oxygen: Tensor  # (bonds,) bool

    @staticmethod
    def of(atoms: Tensor, oxygens: Tensor, holds_oxygen: Tensor) -> _Wanted:
        """For bonds drawn as atoms (bonds, 2, 3, 3)."""
        cis = _is_cis(atoms)
        ca_c, n_ca = (atoms[:, 0, 2] - atoms[:, 0, 1]).norm(dim=-1), (atoms[:, 1, 1] - atoms[:, 1, 0]).norm(dim=-1)
        ca_n = _across(ca_c, C_N, torch.where(cis, CIS_CA_C_N, CA_C_N))
        c_ca = _across(n_ca, C_N, torch.where(cis, CIS_C_N_CA, C_N_CA))
        lengths = torch.stack([torch.full_like(ca_n, C_N), ca_n, c_ca], dim=1)
        return _Wanted(lengths, torch.where(cis, 0.0, math.pi).to(lengths), oxygens, holds_oxygen)


def _residuals(atoms: Tensor, wanted: _Wanted) -> Tensor:
    """(..., 7) how far bonds are from what is asked for, of the atoms (..., 2, 3, 3) of two residues."""
    n, ca, c = atoms[..., 0, :], atoms[..., 1, :], atoms[..., 2, :]
    here, following = (..., 0, slice(None)), (..., 1, slice(None))
    across = torch.stack([n[following] - c[here], n[following] - ca[here], ca[following] - c[here]], dim=-2)
    distances = (across.norm(dim=-1) - wanted.lengths) / DISTANCE
    turn = torsions(atoms)[..., 0, 2] - wanted.omega
    twist = torch.atan2(turn.sin(), turn.cos()) / TWIST
    astray = (carbonyl(ca[here], c[here], n[following]) - wanted.oxygens) * wanted.holds_oxygen[..., None] / OXYGEN
    return torch.cat([distances, twist[..., None], astray], dim=-1)


def _is_cis(atoms: Tensor) -> Tensor:
    """(bonds,) whether bonds (bonds, 2, 3, 3) are drawn cis beyond doubt: closed, with CA - CA' and omega of cis."""
    bond = (atoms[:, 1, 0] - atoms[:, 0, 2]).norm(dim=-1)
    apart = (atoms[:, 1, 1] - atoms[:, 0, 1]).norm(dim=-1)
    near = ((bond - C_N).abs() < 0.2) & ((apart - CIS_CA_CA).abs() < 0.2)
    return near & (torsions(atoms)[:, 0, 2].abs() < math.radians(30))


def _atoms(quaternions: Tensor, positions: Tensor, places: Tensor) -> Tensor:
    """(..., 3, 3) N, CA and C."""
    return positions[..., None, :] + places @ quaternion_to_matrix(quaternions).transpose(-1, -2)


def _across(first: Tensor, second: float, angle: Tensor) -> Tensor:
    """The distance of the ends of two bonds."""
    return (first**2 + second**2 - 2 * first * second * angle.cos()).sqrt()


def _bands(blocks: Tensor, below: Tensor) -> Tensor:
    """(samples, 12, 6 residues) the lower bands, as LAPACK stores them, of a block tridiagonal symmetric matrix."""
    count, length = blocks.shape[:2]
    bands = blocks.new_zeros(count, 12, length, 6)
    for row in range(6):
        for column in range(6):
            if row >= column:
                bands[:, row - column, :, column] = blocks[:, :, row, column]
            bands[:, 6 + row - column, :, column] = below[:, :, row, column]
    return bands.reshape(count, 12, 6 * length)
