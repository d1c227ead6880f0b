"""Noise that knows the bonds: atoms on springs, so that those which are bonded start near each other.

With a spring for every bond, p(x) is proportional to exp(-x^T L x / 2) in each direction, L being the Laplacian of the
graph with the weights 1 / variance (harmonic prior: Jing et al., arXiv:2304.02198; of conformers Hassan et al.,
"ET-Flow", arXiv:2410.22388). Where some atoms k are known, the others m are spread about the places to which
the springs pull them,

    x_m ~ N(L_mm^-1 K_mk x_k, L_mm^-1),    K_mk the weights of the springs between them,

and where none is, about their centre, in whose direction L is zero. The symmetric root of this covariance turns
independent noise into it, so that a flow of independent noise becomes one of springs, in other coordinates.
"""

from __future__ import annotations

import torch
from torch import Tensor

NULL = 1e-8  # of the largest eigenvalue: smaller ones belong to no atom, or to the centre of all


def laplacian(weights: Tensor) -> Tensor:
    """(samples, nodes, nodes) of the weights of springs (samples, nodes, nodes), symmetric, zero where none is."""
    return torch.diag_embed(weights.sum(dim=2)) - weights


def spring_roots(weights: Tensor, moving: Tensor) -> tuple[Tensor, Tensor]:
    """Symmetric roots of the covariance L_mm^-1 of the atoms `moving` (samples, nodes), and of L_mm; zero elsewhere.

    They are pseudo-inverse to each other. Computed in float64 on the CPU.
    """
    both = (moving[:, :, None] & moving[:, None]).cpu()
    stiffness = torch.where(both, laplacian(weights).cpu().double(), 0.0)
    values, vectors = torch.linalg.eigh(stiffness)
    present = values > NULL * values[:, -1:]
    roots = torch.where(present, values, 1.0).sqrt()
    covariance_root = (vectors * (present / roots)[:, None]) @ vectors.mT
    stiffness_root = (vectors * (present * roots)[:, None]) @ vectors.mT
    return covariance_root.to(weights), stiffness_root.to(weights)


def pulled_places(weights: Tensor, places: Tensor, known: Tensor, root: Tensor) -> Tensor:
    """(samples, nodes, 3): `places` of the atoms `known`, and where the springs pull the others; `root` is theirs."""
    held = torch.where(known[..., None], places, 0.0)
    return held + root @ (root @ (weights @ held))
