"""The terms of a symmetric contraction, in the orders in which its kernels go through them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush
from itertools import accumulate
from typing import Self

import numpy as np
import torch
from torch import Tensor

from atomsml.o3.coupling import symmetric_basis


class ContractionTable(torch.nn.Module):
    """The K terms of the contraction of irreps 0..lmax to irreps 0..hidden_lmax, and how path weights enter them.

    ================ ============ =====================================================================================
    index            (K, 3)       components multiplied; the number of components stands for a factor of one
    output           (K,)         output component l*l + l + m
    run              (R, 3)       (output, first factor, second factor) that successive terms share
    run_start        (R + 1,)     terms run_start[r] .. run_start[r + 1] - 1 belong to run r
    third            (K,)         the third factor of each term
    values           (K, 4)       (term, three factors), by output; those of o are rows value_start[o] and following
    value_start      (O + 1,)
    derivatives      (G, 4)       the same of derivatives, by component; factor D + 1 + o is the gradient of output o
    derivative_start (D + 1,)
    paths                         (l_out, degree, number of weights), in the order of `coefficients_from_weights`
    ================ ============ =====================================================================================

    Raises ValueError for a correlation outside 1..3.
    """

    index: Tensor
    output: Tensor
    run: Tensor
    run_start: Tensor
    third: Tensor
    values: Tensor
    value_start: Tensor
    derivatives: Tensor
    derivative_start: Tensor

    def __init__(self, lmax: int, correlation: int, hidden_lmax: int) -> None:
        super().__init__()
        if correlation not in (1, 2, 3):
            raise ValueError(f"correlation {correlation} is not supported; take 1, 2 or 3")
        self.num_components = (lmax + 1) ** 2
        self.num_outputs = (hidden_lmax + 1) ** 2
        terms: list[tuple[int, ...]] = []  # (output, factors)
        paths, matrices = [], []
        for l_out in range(hidden_lmax + 1):
            for degree in range(1, correlation + 1):
                monomials, basis = symmetric_basis(lmax, degree, l_out)
                rows, m = np.nonzero(np.any(basis != 0.0, axis=2))
                ones = (self.num_components,) * (3 - degree)
                terms += [
                    (l_out**2 + b, *monomials[a].tolist(), *ones)
                    for a, b in zip(rows.tolist(), m.tolist(), strict=True)
                ]
                paths.append((l_out, degree, basis.shape[2]))
                matrices.append(torch.from_numpy(basis[rows, m]))
        self.paths = tuple(paths)
        order, runs = _group_into_runs(terms)
        # (terms, weights of all paths), float64; no buffer, so that casting a model does not round it for good
        self.matrix = torch.block_diag(*matrices)[order]
        self._last_matrix = self.matrix
        table = torch.tensor(runs)
        lengths = Counter(term[:3] for term in runs)  # in the order of the runs
        self.register_buffer("index", table[:, 1:].contiguous(), persistent=False)
        self.register_buffer("output", table[:, 0].contiguous(), persistent=False)
        self.register_buffer("run", torch.tensor(list(lengths)), persistent=False)
        self.register_buffer("run_start", torch.tensor([0, *accumulate(lengths.values())]), persistent=False)
        self.register_buffer("third", table[:, 3].contiguous(), persistent=False)
        values = torch.column_stack([torch.arange(len(table)), self.index])
        derivatives, component = _derivatives(self.index, self.output, self.num_components)
        self.register_buffer("values", values, persistent=False)
        self.register_buffer("value_start", _starts(self.output, self.num_outputs), persistent=False)
        self.register_buffer("derivatives", derivatives, persistent=False)
        self.register_buffer("derivative_start", _starts(component, self.num_components), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._last_matrix = self.matrix  # a copy on the device that is left would be pickled with the model
        return super()._apply(fn, recurse)

    def matrix_like(self, x: Tensor) -> Tensor:
        """`matrix` of the type and on the device of x; the last one is kept, which spares a GPU a copy each step."""
        matrix = self._last_matrix
        if matrix.dtype != x.dtype or matrix.device != x.device:
            with torch.inference_mode(False):  # what is first asked for there must still serve later gradients
                matrix = self._last_matrix = self.matrix.to(x)
        return matrix


def _group_into_runs(terms: Sequence[tuple[int, ...]]) -> tuple[list[int], list[tuple[int, ...]]]:
    """Order terms (output, three factors), and the factors in each, such that few runs share (output, two factors).

    Greedy: the pair of factors that the most remaining terms of an output share makes the next run. Returns the
    positions of the ordered terms among the given ones, and the ordered terms.
    """
    keys = [((o, i, j), (o, i, k), (o, j, k)) for o, i, j, k in terms]
    members: dict[tuple[int, ...], dict[int, int]] = {}  # (output, two factors) -> {term: its third factor}
    for position, (_, i, j, k) in enumerate(terms):
        for key, third in zip(keys[position], (k, j, i), strict=True):
            members.setdefault(key, {})[position] = third
    grouped: list[tuple[tuple[int, ...], int]] = []
    longest = [(-len(found), key) for key, found in members.items()]  # of equally long runs, the first is taken
    heapify(longest)
    while len(grouped) < len(terms):
        length, best = heappop(longest)
        if -length > len(members[best]):  # shorter by now
            heappush(longest, (-len(members[best]), best))
            continue
        for position, third in list(members[best].items()):
            grouped.append(((*best, third), position))
            for key in keys[position]:
                members[key].pop(position, None)
    grouped.sort()
    return [position for _, position in grouped], [term for term, _ in grouped]


def _derivatives(index: Tensor, output: Tensor, components: int) -> tuple[Tensor, Tensor]:
    """`ContractionTable.derivatives`, and the component by which each is the derivative."""
    term, gradient = torch.arange(len(index)), components + 1 + output
    rows = torch.cat([torch.column_stack([term, gradient, index.roll(-d, dims=1)[:, 1:]]) for d in range(3)])
    component, order = index.T.flatten().sort(stable=True)
    real = component < components  # the constant one has no derivative
    return rows[order[real]], component[real]


def _starts(ascending: Tensor, count: int) -> Tensor:
    """Where each of 0 .. count - 1 starts among ascending numbers, and the end."""
    return torch.searchsorted(ascending, torch.arange(count + 1))


def coefficients_from_weights(weights: Sequence[Tensor], table: ContractionTable) -> Tensor:
    """Coefficient of every term, (S, K, C), from the weights of each of `table.paths`, (S, number of weights, C)."""
    stacked = torch.cat(list(weights), dim=1)
    return torch.matmul(table.matrix_like(stacked), stacked)
