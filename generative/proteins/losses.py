"""Errors of predicted frames: what the losses of the flow and of the diffusion are made of.

Frames are a state {"rotations": (samples, residues, 4), "positions": (samples, residues, 3)}, with positions in UNIT.
`free` (samples, residues) marks the residues that are to be found; each error is a mean over these, (samples,).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from atomsml.generative.core.fields import State
from atomsml.generative.core.processes.geodesic import BrownianMotion
from atomsml.generative.core.rotations import quaternion_to_matrix
from atomsml.generative.core.spaces import igso3
from atomsml.generative.core.spaces.so3 import SO3
from atomsml.generative.proteins.geometry import IDEAL
from atomsml.generative.proteins.network import UNIT

LATE = 0.25
FINE = 0.02  # Angstrom: below it errors across a peptide bond count by their squares
NEAR = 6.0  # Angstrom: distances of atoms that are nearer count


def mean_over(errors: Tensor, free: Tensor) -> Tensor:
    """(samples,) of errors (samples, residues); 0 where nothing is free."""
    return (errors * free).sum(dim=1) / free.sum(dim=1).clamp_min(1)


def place_error(found: State, clean: State, free: Tensor) -> Tensor:
    """Squared distances of the places of CA, in UNIT^2, summed over the three coordinates."""
    return mean_over((found["positions"] - clean["positions"]).square().sum(dim=-1), free)


def rotation_flow_error(found: State, clean: State, noisy: State, free: Tensor) -> Tensor:
    """Squared difference of the velocities to the two rotations: |log(r_t, r_0) - log(r_t, found)|^2, in radians^2.

    (Of FrameFlow, Yim et al., arXiv:2310.05297, equation 8, before it is divided by the time that is left.)
    """
    start, *ends = (_turned(frames, free) for frames in (noisy, found, clean))
    velocities = [SO3().log(start, end) for end in ends]
    return mean_over((velocities[0] - velocities[1]).square().sum(dim=-1), free)


def rotation_score_error(
    found: State, clean: State, noisy: State, t: Tensor, heat: BrownianMotion, free: Tensor
) -> Tensor:
    """Squared difference of the scores that two clean rotations mean, over the mean square of the true one.

    (Denoising score matching, Yim et al., arXiv:2302.02277, equation 9 and section 4.2, with the weight of Song et al.,
    arXiv:2011.13456, 1 / E|score|^2. Both scores come from the same function.)
    """
    sigma = heat.sigma(t)
    x, *sources = (_turned(frames, free) for frames in (noisy, found, clean))
    scores = [SO3().heat_score(x, source, sigma) for source in sources]
    error = mean_over((scores[0] - scores[1]).square().sum(dim=-1), free)
    return error / igso3.mean_square_score(sigma)


def late_atom_error(found: State, clean: State, t: Tensor, free: Tensor) -> Tensor:
    """`atom_error` where t < LATE, 0 elsewhere: where there is much noise atoms have no use for their neighbours."""
    late = torch.nonzero(t < LATE).flatten()
    rows = [{name: x[late] for name, x in frames.items()} for frames in (found, clean)]
    return torch.zeros_like(t).index_add(0, late, atom_error(rows[0], rows[1], free[late]))


def atom_error(found: State, clean: State, free: Tensor) -> Tensor:
    """Errors of the atoms, in Angstrom^2: of their places, and of the distances between those that are near.

    The atoms are N, CA and C, from which O follows. The first part is the mean of |a - b|^2 over atoms of free
    residues. The second is the mean of (d - d')^2 over pairs of atoms whose true distance d' is below NEAR, and of
    which one at least is of a free residue (Yim et al., arXiv:2302.02277, section 4.2, L_bb and L_2D).
    """
    atoms = [_atoms(frames) for frames in (found, clean)]
    places = mean_over((atoms[0] - atoms[1]).square().sum(dim=-1).mean(dim=-1), free)
    present = clean["rotations"].square().sum(dim=-1) > 0  # not padding
    of_atoms, free = (mask.repeat_interleave(3, dim=1) for mask in (present, free))
    pairs = of_atoms[:, :, None] & of_atoms[:, None] & (free[:, :, None] | free[:, None])
    pairs = pairs & ~torch.eye(pairs.shape[1], dtype=torch.bool, device=pairs.device)
    distances = [_distances(each.flatten(1, 2)) for each in atoms]
    near = pairs & (distances[1] < NEAR)
    wrong = torch.where(near, (distances[0] - distances[1]).square(), 0).sum(dim=(1, 2))
    return places + wrong / near.sum(dim=(1, 2)).clamp_min(1)


def _turned(frames: State, free: Tensor) -> Tensor:
    """The rotations of the free residues, none elsewhere: the zeros of padding have no logarithm, nor a slope of it."""
    rotations = frames["rotations"]
    return torch.where(free[..., None], rotations, rotations.new_tensor([1.0, 0.0, 0.0, 0.0]))


def peptide_error(found: State, clean: State, free: Tensor) -> Tensor:
    """Errors of the four distances across each peptide bond, in Angstrom: of CA and C to the N and CA that follow.

    These are nearly the same in all proteins: unlike a mean of squares, a mean of absolute errors
    (of squares below FINE) still counts when they are nearly right. Of bonds of which a residue at least is free.
    """
    present = clean["rotations"].square().sum(dim=-1) > 0  # not padding
    bonds = present[:, :-1] & present[:, 1:] & (free[:, :-1] | free[:, 1:])
    lengths = []
    for frames in (found, clean):
        atoms = _atoms(frames)
        across = atoms[:, :-1, 1:, None] - atoms[:, 1:, None, :2]  # (samples, bonds, CA and C, N and CA, 3)
        lengths.append(torch.sqrt(across.square().sum(dim=-1) + 1e-12))
    wrong = functional.smooth_l1_loss(lengths[0], lengths[1], reduction="none", beta=FINE)
    return mean_over(wrong.mean(dim=(2, 3)), bonds)


def _atoms(frames: State) -> Tensor:
    """(samples, residues, 3, 3) places of N, CA and C, in Angstrom."""
    positions = UNIT * frames["positions"]
    ideal = positions.new_tensor([IDEAL["N"], (0.0, 0.0, 0.0), IDEAL["C"]])
    return positions[..., None, :] + ideal @ quaternion_to_matrix(frames["rotations"]).mT


def _distances(points: Tensor) -> Tensor:
    """(samples, points, points), not exactly zero where points coincide: there the root has no slope."""
    return torch.sqrt((points[:, :, None] - points[:, None]).square().sum(dim=-1) + 1e-12)
