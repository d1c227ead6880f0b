"""Trim NequIP: a few functions of its own for each layer take the place of the layer's radial network.

The weights of the convolution are functions of one variable, the distance: the many functions R_w(r) of a layer lie
close to a space of few dimensions. Their best basis is that of a singular value decomposition,

    R_w(r)  ~  sum over n < RANK of  B[n, w] sum over k < NUM_SPLINES of  A[k, n] b_k(r),

where b_k are cubic B-splines times the model's envelope, which so keeps its form at the cutoff. Among all matrices of
this rank, A B minimises the integral of r |error|^2 from `SHORTEST` to the cutoff: weights r^2 lose short bonds, and
even weights the many distant neighbours. R2 = 1 - this integral over that of r |R|^2, for all weights of a layer.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from atomsml.potentials.nequip.model import NequIP

SHORTEST = 0.7  # A: shorter than any bond (H2: 0.74); the fit says little of distances below it
POINTS = 1000
NUM_SPLINES = 32
RANK = 9


@dataclass(frozen=True)
class TrimReport:
    """What a trim has saved and lost."""

    r2: tuple[float, ...]  # of each layer
    parameters_before: int
    parameters_after: int


def trim_radial(potential: NequIP) -> tuple[NequIP, TrimReport]:
    """A potential with few radial functions in place of the networks, and how well they fit.

    Raises:
        ValueError: the radial functions are linear already, or so small that this would save no parameters.
    """
    if not potential.config.radial_mlp:
        raise ValueError("the radial functions are linear maps of their basis already; there is nothing to trim")
    config = dataclasses.replace(potential.config, radial_mlp=(), num_bessel=RANK, num_splines=NUM_SPLINES)
    with torch.random.fork_rng(devices=[]):
        trimmed = NequIP(config).to(potential.references.device).cast(potential.dtype)
    before, after = (sum(parameter.numel() for parameter in which.parameters()) for which in (potential, trimmed))
    if after >= before:
        raise ValueError(f"a trim would make {before} parameters {after}; the model is too small for it")
    kept = {name: x for name, x in potential.state_dict().items() if "radial" not in name}
    trimmed.load_state_dict(kept, strict=False)
    lengths = torch.linspace(SHORTEST, potential.cutoff, POINTS, dtype=potential.dtype).to(potential.references.device)
    root = lengths.sqrt()[:, None]
    r2 = []
    with torch.no_grad():
        splines, bessel = root * trimmed.radial_basis(lengths), potential.radial_basis(lengths)
        for old, new in zip(potential.all_layers, trimmed.all_layers, strict=True):
            wanted = root * old.radial(bessel)
            weights = (*new.basis.parameters(), *new.radial.parameters())
            for weight, matrix in zip(weights, low_rank_fit(splines, wanted, RANK), strict=True):
                weight.copy_(matrix * len(matrix) ** 0.5)  # its forward divides by this root
            left = wanted - new.radial(new.basis(splines))
            r2.append(1 - float(left.square().sum() / wanted.square().sum()))
    return trimmed.eval(), TrimReport(tuple(r2), before, after)


def low_rank_fit(basis: Tensor, wanted: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """A (functions, rank) and B (rank, columns) that minimise |basis A B - wanted|^2, where B B^T is the identity.

    basis: (points, functions), wanted: (points, columns). Functions that the points do not see take no part.
    """
    u, size, v = torch.linalg.svd(basis.double(), full_matrices=False)
    seen = size > 1e-9 * size[0]
    u, size, v = u[:, seen], size[seen], v[seen]
    left, singular, right = torch.linalg.svd(u.T @ wanted.double(), full_matrices=False)
    return v.T @ (left[:, :rank] * singular[:rank] / size[:, None]), right[:rank]
