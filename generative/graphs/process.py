"""Masking of bonds: pairs are decided one after the other, and what is decided leaves only what can be completed.

An order-agnostic generator (Hoogeboom et al., arXiv:2110.02037) decides what is masked in random order, one by one;
masked diffusion (Austin et al., arXiv:2107.03006; Sahoo et al., arXiv:2406.07524) is the same with several in a step.
Here those of one step come one after the other: their probabilities are from one prediction, but between any two the
bounds of valences.py are brought up to date, which costs little beside a prediction. Pairs that have one possible order
take it at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from atomsml.generative.core.noise import SampleNoise
from atomsml.generative.core.processes.categorical import CategoricalProcess, Masking, draw
from atomsml.generative.core.spaces.base import Space
from atomsml.generative.graphs import pairs
from atomsml.generative.graphs.valences import UNDECIDED, settle


@dataclass(frozen=True)
class BondMasking(CategoricalProcess):
    """Masking of the bonds (samples, pairs) of atoms whose valences are to be used up.

    From t to s the fraction 1 - s / t of the undecided pairs is decided, rounded up. A sample that no bonds can
    complete any more keeps its undecided pairs.
    """

    valences: Tensor  # (samples, nodes)
    neighbors: Tensor  # (samples, nodes)
    mask: Tensor  # (samples, nodes) bool

    def prior(self, space: Space, noise: SampleNoise) -> Tensor:
        return Masking().prior(space, noise)

    def step(self, space: Space, x_t: Tensor, data: Tensor, t: Tensor, s: Tensor, noise: SampleNoise) -> Tensor:
        order, levels = noise.uniform(2).unbind(dim=-1)
        bonds, known = settle(pairs.to_dense(x_t), self.valences, self.neighbors, self.mask)
        open_pairs = (pairs.to_list(bonds) == UNDECIDED).sum(dim=1)
        due = torch.ceil(open_pairs * (1 - s / t) - 1e-4).long()  # one of 3 is 1 in spite of rounding
        rows, i, j = torch.arange(len(due), device=due.device), *pairs.pair_atoms(bonds.shape[1], due.device)
        for turn in range(int(due.max())):
            undecided = pairs.to_list(bonds) == UNDECIDED
            deciding = (turn < due) & undecided.any(dim=1) & known.possible
            chosen = torch.where(undecided, order, 2).argmin(dim=1)
            a, b = i[chosen], j[chosen]
            # of a prediction that is zero in rounding wherever an order is allowed, any of these
            weights = data[rows, chosen].clamp_min(torch.finfo(data.dtype).tiny) * known.allowed[rows, a, b]
            drawn = draw(weights[:, None], levels[rows, chosen][:, None])[:, 0]
            bonds = bonds.clone()
            bonds[rows, a, b] = bonds[rows, b, a] = torch.where(deciding, drawn, bonds[rows, a, b])
            bonds, known = settle(bonds, self.valences, self.neighbors, self.mask)
        return pairs.to_list(bonds)
