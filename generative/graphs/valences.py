"""What bonds that are decided allow the others to be, so that all valences are used up and everything is connected.

Atom i is to have bonds whose orders add up to its valence v_i. Of the pairs that are not decided, these bounds hold of
every completion, with the open valences w_i = v_i - sum of the decided orders at i:

| bound on the order x_ij | because |
|---|---|
| x_ij <= w_i, w_j, 3 | valences are not exceeded |
| x_ij >= w_i - sum of the upper bounds of the other pairs of i | they are used up |
| x_ij <= w_i - sum of the lower bounds of the other pairs of i | the others get what they need |
| x_ij <= (w - 2 (c - 1)) / 2, or one more between two components | c components need c - 1 bonds of what is left, w |
| x_ij <= (w_C - 1) / 2 of the components C that it joins, unless it joins all | none closes off |
| x_ij >= 1 if without it the graph of decided and possible bonds falls apart | it is a bridge |

An edge is a bridge exactly if it belongs to every spanning tree, that is if the resistance between its ends is one,
with unit resistors for edges (Kirchhoff 1847): a matrix inverse finds the bridges of all graphs of a batch.

Before anything is decided there is a simple exact answer. Numbers v_1 >= v_2 >= ... are the valences of a connected
molecule with orders up to b = 3 if and only if they are positive (or there is one atom, with 0), their sum is even and
at least 2 (n - 1), and

    sum_{i <= k} v_i <= b k (k - 1) + sum_{i > k} min(v_i, b k)    for all k

(Chungphaisan, Discrete Math. 7, 31 (1974)): where such a graph has two components, one of them has a bond in a ring or
of higher order, and exchanging ends between it and a bond of the other joins them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from atomsml.generative.graphs.graphs import HIGHEST_ORDER

ORDERS = HIGHEST_ORDER + 1  # 0 ... 3
UNDECIDED = ORDERS  # the value of a pair that is not decided yet
FARTHEST = 8  # bonds: longer ways between two atoms are not told apart
ROUNDS = 2  # of tightening bounds by each other


@dataclass(frozen=True)
class Bounds:
    """What is known of a batch whose pairs are partly decided; where they are, both bounds are the order."""

    low: Tensor  # (samples, nodes, nodes)
    high: Tensor  # (samples, nodes, nodes)
    possible: Tensor  # (samples,) bool: False where no completion obeys; True promises none
    open: Tensor  # (samples, nodes): valence that is left
    distance: (
        Tensor  # (samples, nodes, nodes): decided bonds from atom to atom, FARTHEST or more; -1 where no way leads
    )
    components: Tensor  # (samples,)

    @property
    def undecided(self) -> Tensor:
        """(samples, nodes, nodes) bool: more than one order is allowed."""
        return self.low < self.high

    @property
    def allowed(self) -> Tensor:
        """(samples, nodes, nodes, ORDERS) bool."""
        orders = torch.arange(ORDERS, device=self.low.device)
        return (orders >= self.low[..., None]) & (orders <= self.high[..., None])


def bounds(bonds: Tensor, valences: Tensor, mask: Tensor) -> Bounds:
    """Bounds on what is undecided in `bonds` (samples, nodes, nodes), as the module docstring says.

    Args:
        bonds: orders, or UNDECIDED; symmetric, zero on the diagonal and at padding.
        valences: (samples, nodes), zero at padding.
        mask: (samples, nodes) bool, atoms and not padding.
    """
    undecided = bonds == UNDECIDED
    orders = torch.where(undecided, 0, bonds)
    left = valences - orders.sum(dim=2)
    distance = _distances(orders > 0)
    together = distance >= 0
    components = (mask / together.sum(dim=2)).sum(dim=1).round().long()
    of_component = (together * left[:, None]).sum(dim=2)

    high = torch.minimum(left[:, :, None], left[:, None]).clamp(0, HIGHEST_ORDER)
    c = components[:, None, None]
    spare = left.sum(dim=1)[:, None, None] // 2 - (c - 1)
    high = torch.minimum(high, spare + ~together)
    joined = torch.where(together, of_component[:, :, None], of_component[:, :, None] + of_component[:, None])
    last = c - (~together).long() == 1
    high = torch.where(last, high, torch.minimum(high, (joined - 1).clamp(min=0) // 2))
    high = torch.where(undecided, high, 0)

    low = torch.zeros_like(high)
    for _ in range(ROUNDS):
        lacking = left - high.sum(dim=2)  # what an atom lacks if every pair takes as much as it can, at most 0
        low = torch.maximum(low, high + torch.maximum(lacking[:, :, None], lacking[:, None]))
        low = torch.where(undecided, low, 0)
        free = left - low.sum(dim=2)
        high = torch.minimum(high, low + torch.minimum(free[:, :, None], free[:, None]))
        high = torch.where(undecided, high, 0)
    bridge, connected = _bridges((orders > 0) | (high > 0), mask)
    low = torch.where(bridge & undecided, low.clamp(min=1), low)
    possible = connected & (low <= high).flatten(1).all(dim=1) & (high.sum(dim=2) >= left).all(dim=1)
    return Bounds(low + orders, high + orders, possible & (left >= 0).all(dim=1), left, distance, components)


def settle(bonds: Tensor, valences: Tensor, mask: Tensor) -> tuple[Tensor, Bounds]:
    """Decide what has one possible order, until each undecided pair has several; and the bounds then."""
    while True:
        found = bounds(bonds, valences, mask)
        forced = (bonds == UNDECIDED) & (found.low == found.high) & found.possible[:, None, None]
        if not forced.any():
            return bonds, found
        bonds = torch.where(forced, found.low, bonds)


def _distances(linked: Tensor) -> Tensor:
    """(samples, nodes, nodes) steps along links, FARTHEST or more, and -1 where there is no way."""
    nodes = linked.shape[1]
    step = (linked | torch.eye(nodes, dtype=torch.bool, device=linked.device)).float()
    reached, distance = (
        torch.eye(nodes, device=linked.device).expand_as(step),
        torch.zeros_like(linked, dtype=torch.long),
    )
    for _ in range(min(FARTHEST, nodes - 1)):
        distance = distance + (reached == 0)
        reached = (reached @ step).clamp(max=1)
    return torch.where(_closure(reached, FARTHEST) > 0, distance, -1)


def _closure(reached: Tensor, steps: int) -> Tensor:
    """What is reached in any number of steps, from what is reached in so many."""
    while steps < reached.shape[1] - 1:
        reached, steps = (reached @ reached).clamp(max=1), 2 * steps
    return reached


def _bridges(edges: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """(samples, nodes, nodes) which edges are bridges, and (samples,) which graphs are connected."""
    nodes = edges.shape[1]
    eye = torch.eye(nodes, device=edges.device)
    alone = ~(mask[:, :, None] & mask[:, None])  # padding
    reached = _closure((edges | eye.bool()).float(), 1)
    connected = ((reached > 0) | alone).flatten(1).all(dim=1)
    weights = edges.float()
    size = mask.sum(dim=1).clamp(min=1)[:, None, None]
    laplacian = torch.diag_embed(weights.sum(dim=2)) - weights
    regular = torch.where(alone, eye, laplacian + 1 / size)
    inverse = torch.linalg.inv(torch.where(connected[:, None, None], regular, eye))
    diagonal = inverse.diagonal(dim1=1, dim2=2)
    resistance = diagonal[:, :, None] + diagonal[:, None] - 2 * inverse
    # an edge in a ring has at most 1 - 1 / n
    return edges & (resistance > 1 - 0.5 / size) & connected[:, None, None], connected


def make_a_molecule(valences: np.ndarray) -> bool:
    """Whether some connected molecule has these valences."""
    v = np.sort(np.asarray(valences, np.int64))[::-1]
    n = len(v)
    if n < 2:
        return n == 1 and v[0] == 0
    if v[-1] < 1 or v.sum() % 2 or v.sum() < 2 * (n - 1):
        return False
    return all(
        v[:k].sum() <= HIGHEST_ORDER * k * (k - 1) + np.minimum(v[k:], HIGHEST_ORDER * k).sum() for k in range(1, n + 1)
    )
