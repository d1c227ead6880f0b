"""CPU kernels of the products of operation.py, as wide as the registers of the processor are.

Rows are shared out among as many threads as torch uses.
"""

from __future__ import annotations

import torch
from torch import Tensor

from atomsml.codegen.kernels import Code, Kernel, built_once
from atomsml.codegen.products import Product, Steps, packed
from atomsml.codegen.threads import in_parts
from atomsml.codegen.values import Value

BLOCK = 128  # rows that are summed up while they are in the cache
WORTH_A_THREAD = 4_000_000  # multiplications


def product(x: Tensor, w: Tensor) -> Tensor:
    """x (rows, K) @ w (K, N)."""
    (rows, k), n = x.shape, w.shape[1]
    out = x.new_empty(rows, n)
    columns = packed(w)
    kernel = _product_kernel(k, n, x.dtype)
    in_parts(rows, rows * k * n // WORTH_A_THREAD, lambda first, last: kernel([x, columns, out], first, last))
    return out


def gram(x: Tensor, y: Tensor) -> Tensor:
    """x (rows, K) transposed @ y (rows, N)."""
    (rows, k), n = x.shape, y.shape[1]
    kernel = _gram_kernel(k, n, x.dtype)
    sums: list[Tensor] = []

    def part(first: int, last: int) -> None:
        mine = x.new_zeros(k, n)
        kernel([x, y, mine], first, last)
        sums.append(mine)

    in_parts(rows, rows * k * n // WORTH_A_THREAD, part)
    return sums[0] if len(sums) == 1 else torch.stack(sums).sum(dim=0)


@built_once
def _product_kernel(k: int, n: int, dtype: torch.dtype) -> Kernel:
    code = Code("matmul", ["x", "columns", "out"], ["first", "last"], dtype)
    Product(
        code,
        rows=1,
        k=k,
        columns=n,
        weights=code["columns"],
        weights_k=code.lanes,
        weights_vector=k * code.lanes,
        x=code["x"],
        x_steps=Steps(k, 0, 1),
        out=code["out"],
        out_steps=Steps(n, 0),
        accumulate=False,
    ).write(code.counts["first"], code.counts["last"])
    return code.finish()


@built_once
def _gram_kernel(k: int, n: int, dtype: torch.dtype) -> Kernel:
    """out += the sum over rows first <= r < last of x[r] (outer) y[r]."""
    code = Code("gram", ["x", "y", "out"], ["first", "last"], dtype)
    last = code.counts["last"]

    def block(first: Value) -> None:
        product = Product(
            code,
            rows=1,
            k=(first + BLOCK).least(last) - first,
            columns=n,
            weights=code["y"].row(first, n),
            weights_k=n,
            weights_vector=code.lanes,
            x=code["x"].row(first, k),
            x_steps=Steps(1, 0, k),
            out=code["out"],
            out_steps=Steps(n, 0),
            accumulate=True,
        )
        product.write(code.integer(0), code.integer(k))

    code.loop(code.counts["first"], last, block, step=BLOCK)
    return code.finish()
