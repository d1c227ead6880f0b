"""Trim NequIP: a linear map of the radial basis takes the place of every layer's radial network.

The weights of the convolution are functions of one variable, the distance. Facet's authors found that the networks of
SevenNet-0 learn little that its basis functions cannot say by themselves: R(r) = sum over n of W[n] b_n(r), with the
envelope in b, so that a fitted potential loses a quarter of its parameters and keeps its form at the cutoff.

W is the least-squares fit over distances from `SHORTEST` to the cutoff, each weighted by r^2: so many neighbours stand
at a distance where atoms are spread evenly. R2 = 1 - sum r^2 |R - W b|^2 / sum r^2 |R|^2 over all weights of a layer.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch

from atomsml.potentials.nequip import NequIP

SHORTEST = 1.0  # A: shorter distances are rare, and a fit that minds them is worse at all others
POINTS = 2000


@dataclass(frozen=True)
class TrimReport:
    """What a trim has saved and lost."""

    r2: tuple[float, ...]  # of each layer
    parameters_before: int
    parameters_after: int


def trim_radial(potential: NequIP) -> tuple[NequIP, TrimReport]:
    """A potential with linear radial functions in place of the networks, and how well they fit.

    Raises:
        ValueError: the radial functions are linear already.
    """
    if not potential.config.radial_mlp:
        raise ValueError("the radial functions are linear maps of their basis already; there is nothing to trim")
    with torch.random.fork_rng(devices=[]):
        trimmed = NequIP(dataclasses.replace(potential.config, radial_mlp=())).cast(potential.dtype)
    kept = {name: x for name, x in potential.state_dict().items() if ".radial.weights." not in name}
    trimmed.load_state_dict(kept, strict=False)
    lengths = torch.linspace(SHORTEST, potential.cutoff, POINTS, dtype=potential.dtype).to(potential.references.device)
    r2 = []
    with torch.no_grad():
        basis = potential.radial_basis(lengths)
        for before, after in zip(potential.all_layers, trimmed.all_layers, strict=True):
            wanted = lengths[:, None] * before.radial(basis)
            weighted = (lengths[:, None] * basis).double()
            solution = torch.linalg.lstsq(weighted, wanted.double()).solution
            after.radial.weights[0].copy_(solution * len(solution) ** 0.5)  # its forward divides by this root
            r2.append(1 - float((wanted - weighted @ solution).square().sum() / wanted.square().sum()))
    counts = [sum(parameter.numel() for parameter in which.parameters()) for which in (potential, trimmed)]
    return trimmed.eval(), TrimReport(tuple(r2), *counts)
