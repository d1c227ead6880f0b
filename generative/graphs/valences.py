"""What bonds that are decided allow the others to be, so that atoms get all they are to have and are connected.

Atom i is to have d_i neighbours, with bonds whose orders add up to its valence v_i >= d_i. What is decided leaves open
d'_i neighbours, v'_i of the valence, and for multiple bonds the excess e_i = v'_i - d'_i. These bounds on a pair that
is not decided hold in every completion:

| bound on the order x_ij | because |
|---|---|
| x_ij = 0 if d'_i = 0 or d'_j = 0, else x_ij <= 1 + e_i, 1 + e_j, 3 | the other bonds need one each |
| x_ij = 0 or x_ij >= v'_i - what its other d'_i - 1 bonds can be | valences are used up |
| what the bounds of the other pairs of i leave of v'_i, and of d'_i for whether it is a bond | sums are exact |
| x_ij = 0 within a component if d' = sum_i d'_i < 2 c | c components need c - 1 bonds |
| x_ij = 0 if no d' remains to the components that it joins, unless it joins all | none closes off |
| x_ij >= 1 if without it the graph of decided and possible bonds falls apart | it is a bridge |

An edge is a bridge exactly if it belongs to every spanning tree, that is if the resistance between its ends is one,
with unit resistors for edges (Kirchhoff 1847): a matrix inverse finds the bridges of all graphs of a batch.

Before anything is decided there is a simple answer to who can be connected with whom. Numbers d_1 >= d_2 >= ... are the
numbers of neighbours in a connected graph if and only if they are positive (or there is one atom, with 0), their sum is
even and at least 2 (n - 1), and

    sum_{i <= k} d_i <= k (k - 1) + sum_{i > k} min(d_i, k)    for all k

(Erdos and Gallai 1960): where such a graph has two components, one of them has a ring, and exchanging ends between a
bond of it and one of the other joins them. With 3 k in the place of k on the right the same is necessary of valences
(Chungphaisan, Discrete Math. 7, 31 (1974)).
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
    least: Tensor  # (samples, nodes, nodes): of the order, if it is not zero
    possible: Tensor  # (samples,) bool: False where no completion obeys; True promises none
    open: Tensor  # (samples, nodes): valence that is left
    places: Tensor  # (samples, nodes): neighbours that are left
    distance: (
        Tensor  # (samples, nodes, nodes): decided bonds from atom to atom, FARTHEST or more; -1 where no way leads
    )
    components: Tensor  # (samples,)

    @property
    def allowed(self) -> Tensor:
        """(samples, nodes, nodes, ORDERS) bool."""
        orders = torch.arange(ORDERS, device=self.low.device)
        inside = (orders >= self.low[..., None]) & (orders <= self.high[..., None])
        return inside & ((orders == 0) | (orders >= self.least[..., None]))


def bounds(bonds: Tensor, valences: Tensor, neighbors: Tensor, mask: Tensor) -> Bounds:
    """Bounds on what is undecided in `bonds` (samples, nodes, nodes), as the module docstring says.

    Args:
        bonds: orders, or UNDECIDED; symmetric, zero on the diagonal and at padding.
        valences: (samples, nodes), zero at padding.
        neighbors: (samples, nodes) how many bonds an atom has, zero at padding.
        mask: (samples, nodes) bool, atoms and not padding.
    """
    undecided = bonds == UNDECIDED
    orders = torch.where(undecided, 0, bonds)
    linked = orders > 0
    left, places = valences - orders.sum(dim=2), neighbors - linked.sum(dim=2)
    distance = _distances(linked)
    together = distance >= 0
    components = (mask / together.sum(dim=2)).sum(dim=1).round().long()
    links = undecided & _can_link(places, together, components)
    excess = left - places
    high = torch.where(links, torch.minimum(excess[:, :, None], excess[:, None]).clamp(0, HIGHEST_ORDER - 1) + 1, 0)
    low, least = torch.zeros_like(high), torch.zeros_like(high)
    for _ in range(ROUNDS):
        least = _least(high, left, places)
        high = torch.where(least > high, 0, high)
        needed, can = _tighten((low > 0).long(), (high > 0).long(), places)
        low = torch.maximum(torch.maximum(low, needed), torch.where((low > 0) | (needed > 0), least, 0)) * undecided
        low, high = _tighten(low, high * can, left)
        low, high = low * undecided, high * undecided
    bridge, connected = _bridges(linked | (high > 0), mask)
    low = torch.where(bridge & undecided, torch.maximum(low, least.clamp(min=1)), low)
    enough = (high.sum(dim=2) >= left) & ((high > 0).sum(dim=2) >= places) & (places >= 0) & (excess >= 0)
    possible = connected & (low <= high).flatten(1).all(dim=1) & enough.all(dim=1)
    least = torch.where(undecided, least, orders)
    return Bounds(low + orders, high + orders, least, possible, left, places, distance, components)


def _can_link(places: Tensor, together: Tensor, components: Tensor) -> Tensor:
    """(samples, nodes, nodes) bool: two atoms have places, and what a bond joins is not closed off."""
    c = components[:, None, None]
    spare = places.sum(dim=1)[:, None, None] // 2 - (c - 1)
    of_component = (together * places[:, None]).sum(dim=2)
    joined = torch.where(together, of_component[:, :, None], of_component[:, :, None] + of_component[:, None])
    last = c - (~together).long() == 1
    free = (places[:, :, None] > 0) & (places[:, None] > 0)
    return free & (last | (joined > 2)) & (~together | (spare > 0))


def _least(high: Tensor, left: Tensor, places: Tensor) -> Tensor:
    """(samples, nodes, nodes) of the order of a bond, so that with the largest others of an atom all is used up."""
    largest = high.sort(dim=2, descending=True).values.cumsum(dim=2)
    others = largest.gather(2, (places - 2).clamp(min=0)[..., None])[..., 0]
    least = (left - torch.where(places > 1, others, 0)).clamp(min=1)
    return torch.maximum(least[:, :, None], least[:, None])


def _tighten(low: Tensor, high: Tensor, sums: Tensor) -> tuple[Tensor, Tensor]:
    """Bounds on symmetric entries whose rows have these sums."""
    lacking = sums - high.sum(dim=2)  # what an atom lacks if every pair takes as much as it can, at most 0
    low = torch.maximum(low, high + torch.maximum(lacking[:, :, None], lacking[:, None]))
    free = sums - low.sum(dim=2)
    return low, torch.minimum(high, low + torch.minimum(free[:, :, None], free[:, None]))


def settle(bonds: Tensor, valences: Tensor, neighbors: Tensor, mask: Tensor) -> tuple[Tensor, Bounds]:
    """Decide what has one possible order, until each undecided pair has several; and the bounds then."""
    while True:
        found = bounds(bonds, valences, neighbors, mask)
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


def make_a_molecule(valences: np.ndarray, neighbors: np.ndarray) -> bool:
    """False if no connected molecule has atoms with these; exact of the numbers of neighbours alone."""
    if len(neighbors) < 2:
        return len(neighbors) == 1 and neighbors[0] == valences[0] == 0
    if neighbors.min() < 1 or neighbors.sum() < 2 * (len(neighbors) - 1) or (valences < neighbors).any():
        return False
    return _are_degrees(neighbors, 1) and _are_degrees(valences, HIGHEST_ORDER)


def _are_degrees(degrees: np.ndarray, highest: int) -> bool:
    """Whether some graph, connected or not, whose edges count up to `highest` times has these."""
    v, n = np.sort(degrees)[::-1], len(degrees)
    fits = (v[:k].sum() <= highest * k * (k - 1) + np.minimum(v[k:], highest * k).sum() for k in range(1, n + 1))
    return v.sum() % 2 == 0 and all(fits)
