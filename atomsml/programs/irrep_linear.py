"""CPU kernel of the equivariant linear layer, for inference: the products of all degrees in one call.

    out[n, m] = x[n, m] @ W_l        (or += ) for every atom n, and every component m of every degree l

Matrix libraries take longer to start than the product of a few atoms takes, and bring threads that get in the way of
threads over atoms. A call of this kernel runs on the thread that calls it, and releases Python's lock.

The tiles are those of `codegen/products.py`: an atom gets the same bits in any range.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from atomsml.codegen.arrays import Array
from atomsml.codegen.kernels import Code, Kernel, built_once
from atomsml.codegen.machine import lanes
from atomsml.codegen.products import Product, Steps
from atomsml.codegen.values import Value
from atomsml.programs.plan import Array as PlanArray
from atomsml.programs.plan import Count, Plan


class IrrepProduct:
    """out = x @ W of every degree l = 0, 1, ... (out += x @ W with `accumulate`).

    Features are either joined, one array (atoms, D, channels) with degree l at components l^2 .. (l + 1)^2 - 1, of
    which those beyond the last degree are not looked at, or separate, one array (atoms, 2l + 1, channels) for each l.

    Args:
        weights: of each degree l, (K, N), or (elements, K, N) where every element has matrices of its own; N a multiple
            of lanes(dtype). They are copied.
        joined_in: D of the features x, None if they are separate.
        joined_out: D of the features out, None if they are separate.
        accumulate: add to what `out` holds.
    """

    def __init__(
        self, weights: Sequence[Tensor], joined_in: int | None, joined_out: int | None, accumulate: bool = False
    ) -> None:
        dtype = weights[0].dtype
        width = lanes(dtype)
        stacks = [w if w.dim() == 3 else w[None] for w in weights]
        # (elements, vectors of columns, K, lanes): a tile reads every one of its vectors in the order of memory
        columns = [w.unflatten(2, (-1, width)).transpose(1, 2).flatten(1) for w in stacks]
        self._weights = torch.cat(columns, dim=1).detach()
        self._degrees = len(weights)
        shapes = tuple((w.shape[1], w.shape[2]) for w in stacks)
        self._kernel = _kernel(shapes, joined_in, joined_out, accumulate, weights[0].dim() == 3, dtype)

    def add_to(
        self,
        plan: Plan,
        x: Sequence[PlanArray],
        out: Sequence[PlanArray],
        first: int | Count,
        last: int | Count,
        runs: Runs | None = None,
    ) -> None:
        """Plan to fill `out` for atoms first <= n < last; `runs` where elements have matrices of their own.

        One array each where joined, else one per degree, of which further ones are not looked at; all contiguous, and
        those of x apart from those of out.
        """
        elements = [] if runs is None else [runs.element, runs.length]
        mine = [*x[: self._degrees], *out[: self._degrees]]
        plan.add(self._kernel, [*elements, self._weights, *mine], first, last)


@dataclass(frozen=True)
class Runs:
    """Neighbouring atoms of one element, which are multiplied together."""

    element: PlanArray  # (atoms,)
    length: PlanArray  # (atoms,) of the run that begins with an atom, 0 if none does


@dataclass(frozen=True)
class Linear:
    """A linear map of features, and the one that takes gradients back."""

    forward: IrrepProduct
    backward: IrrepProduct

    @staticmethod
    def of(
        weights: Sequence[Tensor], joined_in: int | None, joined_out: int | None, accumulate: tuple[bool, bool]
    ) -> Linear:
        """IrrepProduct says what the arguments mean; `accumulate` is that of both directions."""
        return Linear(
            IrrepProduct(weights, joined_in, joined_out, accumulate[0]),
            IrrepProduct([w.mT for w in weights], joined_out, joined_in, accumulate[1]),
        )


@built_once
def _kernel(
    shapes: tuple[tuple[int, int], ...],
    joined_in: int | None,
    joined_out: int | None,
    accumulate: bool,
    by_element: bool,
    dtype: torch.dtype,
) -> Kernel:
    """For weights of the given shapes (K, N), one per degree."""
    degrees = range(len(shapes))
    x = ["x"] * len(shapes) if joined_in else [f"x{l}" for l in degrees]
    out = ["out"] * len(shapes) if joined_out else [f"out{l}" for l in degrees]
    indices = ["element_index", "run_index"] if by_element else []
    code = Code("irrep_linear", [*indices, "weights", *dict.fromkeys(x), *dict.fromkeys(out)], ["first", "last"], dtype)
    sizes = [k * n for k, n in shapes]

    def atoms(first: Value, last: Value, weights: Array) -> None:
        for l, (k, n) in enumerate(shapes):
            product = Product(
                code,
                rows=2 * l + 1,
                k=k,
                columns=n,
                weights=weights + sum(sizes[:l]),
                weights_k=code.lanes,
                weights_vector=k * code.lanes,
                x=code[x[l]] + (l * l * k if joined_in else 0),
                x_steps=Steps((joined_in or 2 * l + 1) * k, k, 1),
                out=code[out[l]] + (l * l * n if joined_out else 0),
                out_steps=Steps((joined_out or 2 * l + 1) * n, n),
                accumulate=accumulate,
            )
            product.write(first, last)

    def run(n: Value) -> None:
        length = code["run_index"][n]
        with code.when(length > 0):
            atoms(n, n + length, code["weights"].row(code["element_index"][n], sum(sizes)))

    first, last = code.counts["first"], code.counts["last"]
    if by_element:
        code.loop(first, last, run)
    else:
        atoms(first, last, code["weights"])
    return code.finish()
