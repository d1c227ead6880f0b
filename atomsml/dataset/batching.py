"""Batches within a budget of structures, atoms and edges."""

from __future__ import annotations

import numpy as np


def plan_batches(
    order: np.ndarray,
    num_atoms: np.ndarray,
    num_edges: np.ndarray | None = None,
    max_structures: int | None = None,
    max_atoms: int | None = None,
    max_edges: int | None = None,
) -> list[np.ndarray]:
    """Cut `order` into batches, each as long as the budgets allow; a structure above a budget stands alone.

    Args:
        order: indices of structures, in the order in which they are to be seen.
        num_atoms, num_edges: (n,) of all structures, by index.

    Raises:
        ValueError: a budget below 1, or one of edges without their numbers.
    """
    if max_edges is not None and num_edges is None:
        raise ValueError("a budget of edges needs the number of edges of each structure; set max_atoms instead")
    costs = []
    for budget, cost in ((max_structures, np.ones_like(num_atoms)), (max_atoms, num_atoms), (max_edges, num_edges)):
        if budget is not None and cost is not None:
            if budget < 1:
                raise ValueError(f"the budget of a batch must be at least 1, got {budget}")
            costs.append((np.concatenate([[0], np.cumsum(cost[order])]), budget))
    batches, start = [], 0
    while start < len(order):
        # the last index up to which no sum since `start` exceeds its budget
        stops = [np.searchsorted(total, total[start] + budget, side="right") - 1 for total, budget in costs]
        stop = max(min(stops, default=len(order)), start + 1)
        batches.append(order[start:stop])
        start = stop
    return batches
