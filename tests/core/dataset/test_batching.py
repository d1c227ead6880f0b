"""Batches within a budget."""

from __future__ import annotations

import numpy as np
import pytest

from atomsml.dataset import plan_batches

SIZES = np.random.default_rng(0).integers(1, 30, 200)
EDGES = SIZES * np.random.default_rng(1).integers(1, 20, 200)


def greedy(order: np.ndarray, structures: float, atoms: float, edges: float) -> list[list[int]]:
    """The same by adding one structure after the other."""
    batches: list[list[int]] = [[]]
    for i in order.tolist():
        trial = [*batches[-1], i]
        if batches[-1] and (len(trial) > structures or SIZES[trial].sum() > atoms or EDGES[trial].sum() > edges):
            batches.append([])
        batches[-1].append(i)
    return batches


@pytest.mark.parametrize("structures", [None, 1, 7])
@pytest.mark.parametrize("atoms", [None, 20, 100])
@pytest.mark.parametrize("edges", [None, 900])
def test_each_batch_is_as_long_as_the_budgets_allow(
    structures: int | None, atoms: int | None, edges: int | None
) -> None:
    order = np.random.default_rng(2).permutation(200)[:150]
    found = plan_batches(order, SIZES, EDGES, structures, atoms, edges)
    limits = [np.inf if limit is None else limit for limit in (structures, atoms, edges)]
    assert [batch.tolist() for batch in found] == greedy(order, *limits)


def test_a_structure_above_the_budget_stands_alone() -> None:
    found = plan_batches(np.arange(4), np.array([3, 50, 3, 3]), max_atoms=10)
    assert [batch.tolist() for batch in found] == [[0], [1], [2, 3]]


def test_no_structures_are_no_batches() -> None:
    assert plan_batches(np.array([], dtype=int), SIZES, max_atoms=10) == []


def test_impossible_budgets() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        plan_batches(np.arange(3), SIZES, max_atoms=0)
    with pytest.raises(ValueError, match="number of edges"):
        plan_batches(np.arange(3), SIZES, max_edges=10)
