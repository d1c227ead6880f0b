"""The symmetric contraction of MACE as one sparse polynomial per output component.

    out[n, o, c] = sum_t coefficients[species[n], t, c] prod_d features[n, index[t, d], c]     over t with output[t] = o

which is Batatia et al. 2022 (MACE), eq. 10-11 with the generalised Clebsch-Gordan coefficients and the weights
multiplied out: the coefficients depend on the weights alone and are formed once per step, and a term is one product
of at most three components instead of a row of dense tensors over 16^3 of them.
"""

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from itertools import accumulate
from typing import Any

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
    members = dict(sorted(members.items()))  # of equally long runs, the first is taken
    grouped: list[tuple[tuple[int, ...], int]] = []
    while len(grouped) < len(terms):
        best = max(members, key=lambda key: len(members[key]))
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


def contract(features: Tensor, coefficients: Tensor, species: Tensor, table: ContractionTable) -> Tensor:
    """Contract features (N, D, C) with coefficients (S, K, C) of each atom's species (N,) to (N, O, C).

    float32 and float64 go through compiled kernels, which can be differentiated twice, on a CPU and, where Triton is
    installed, on a GPU; everything else goes through `contract_reference`. Raises ValueError where shapes or dtypes do
    not fit, and on a CPU, which need not wait for the answer, where a species has no row.
    """
    if features.dtype == torch.bfloat16:  # as matrix products under autocast return
        features = features.to(coefficients.dtype)
    _check(features, coefficients, species, table)
    if _kernels(features.device) is None or features.dtype not in (torch.float32, torch.float64):
        return contract_reference(features, coefficients, species, table)
    if (
        features.device.type == "cpu"
        and len(species)
        and not 0 <= int(species.min()) <= int(species.max()) < len(coefficients)
    ):
        raise ValueError(f"species must lie in 0..{len(coefficients) - 1}, one row of coefficients each")
    out = _Contraction.apply(features, coefficients, species, table)
    if coefficients.requires_grad:
        # Autograd does not tell a function which of its gradients are wanted. A node of its own for the coefficients is
        # only visited when theirs is, so that forces do not pay for it.
        out = out + _CoefficientBranch.apply(coefficients, (features,), species, table)
    return out


def contract_reference(features: Tensor, coefficients: Tensor, species: Tensor, table: ContractionTable) -> Tensor:
    """The same in plain torch, with derivatives of any order; the oracle of every other backend."""
    padded = torch.cat([features, torch.ones_like(features[:, :1])], dim=1)  # the last component is the factor one
    first, second, third = table.index.unbind(1)
    terms = coefficients[species] * padded[:, first] * padded[:, second] * padded[:, third]  # (N, K, C)
    shape = (features.shape[0], table.num_outputs, features.shape[2])
    return features.new_zeros(shape).index_add(1, table.output, terms)


@lru_cache
def _kernels(device: torch.device) -> Any:
    """The module with the kernels for a device, or None."""
    if device.type == "cpu":
        from atomsml.ops import contraction_cpu

        return contraction_cpu
    if device.type == "cuda" and find_spec("triton"):
        from atomsml.ops import contraction_triton

        return contraction_triton
    return None


def _check(features: Tensor, coefficients: Tensor, species: Tensor, table: ContractionTable) -> None:
    atoms, components, channels = features.shape
    if components != table.num_components:
        raise ValueError(f"features have {components} components, but the table was made for {table.num_components}")
    if coefficients.shape[1:] != (len(table.index), channels):
        expected = ("S", len(table.index), channels)
        raise ValueError(f"coefficients must have the shape {expected}, not {tuple(coefficients.shape)}")
    if coefficients.dtype != features.dtype:
        raise ValueError(f"features are {features.dtype} but coefficients {coefficients.dtype}; cast one of them")
    if species.shape != (atoms,):
        raise ValueError(f"species must have the shape ({atoms},), not {tuple(species.shape)}")


class _Contraction(torch.autograd.Function):
    """The contraction, differentiated with respect to the features only."""

    @staticmethod
    def forward(ctx, features, coefficients, species, table):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(features, coefficients, species)
        ctx.table = table
        return _kernels(features.device).forward(features, coefficients, species, table)

    @staticmethod
    def backward(ctx, grad_output):  # type: ignore[no-untyped-def]
        return _FeatureGradient.apply(grad_output, *ctx.saved_tensors, ctx.table), None, None, None


class _FeatureGradient(torch.autograd.Function):
    """Gradient of L = sum(grad_output * out) with respect to the features.

    For a cotangent v, sum(v * dL/dfeatures) is the derivative of L along v, so that its gradients are those of L,
    differentiated along v.
    """

    @staticmethod
    def forward(ctx, grad_output, features, coefficients, species, table):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(grad_output, features, coefficients, species)
        ctx.table = table
        return _kernels(features.device).backward(grad_output, features, coefficients, species, table)

    @staticmethod
    def backward(ctx, v):  # type: ignore[no-untyped-def]
        return *_AlongDirection.apply(v, *ctx.saved_tensors, ctx.table), None, None


class _AlongDirection(torch.autograd.Function):
    """Derivatives along v of the output and of both gradients."""

    @staticmethod
    def forward(ctx, v, grad_output, features, coefficients, species, table):  # type: ignore[no-untyped-def]
        return _kernels(features.device).backward_along(v, grad_output, features, coefficients, species, table)

    @staticmethod
    def backward(ctx, *_):  # type: ignore[no-untyped-def]
        raise NotImplementedError("the kernels of the contraction have no third derivatives; use contract_reference")


class _CoefficientBranch(torch.autograd.Function):
    """Zero, with the derivative of the contraction with respect to the coefficients."""

    @staticmethod
    def forward(ctx, coefficients, features, species, table):  # type: ignore[no-untyped-def]
        ctx.features = features[0]  # wrapped in a tuple, so that this node is no way to the features
        ctx.species, ctx.table, ctx.num_species = species, table, len(coefficients)
        atoms, _, channels = features[0].shape
        return coefficients.new_zeros(()).expand(atoms, table.num_outputs, channels)

    @staticmethod
    def backward(ctx, grad_output):  # type: ignore[no-untyped-def]
        grad = _CoefficientGradient.apply(grad_output, ctx.features, ctx.species, ctx.table, ctx.num_species)
        return grad, None, None, None


class _CoefficientGradient(torch.autograd.Function):
    """Gradient of L = sum(grad_output * out) with respect to the coefficients.

    L is linear in them: for a cotangent u, sum(u * dL/dcoefficients) is L with u in their place.
    """

    @staticmethod
    def forward(ctx, grad_output, features, species, table, num_species):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(grad_output, features, species)
        ctx.table = table
        return _kernels(features.device).backward_coefficients(grad_output, features, species, table, num_species)

    @staticmethod
    def backward(ctx, u):  # type: ignore[no-untyped-def]
        grad_output, features, species = ctx.saved_tensors
        by_output = contract(features, u, species, ctx.table)
        by_features = _FeatureGradient.apply(grad_output, features, u, species, ctx.table)
        return by_output, by_features, None, None, None
