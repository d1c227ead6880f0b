"""CPU kernels of the symmetric contraction: values, gradients, and gradients differentiated along a direction.

The terms of one output that share their first two factors i and j form a run; with q = sum_t w_t x(k_t) over the third
factors k of the run, its share of the output is x(i) x(j) q. A term thus costs one multiply-add forward, and one more
backward, for w_t times the gradient of q. The last row of an atom's components is the constant one, the factor of terms
of lower degree. Equal input gives equal bits: the atoms are summed in order.

In the kernels a name is a list of vectors, which together hold neighbouring channels of one component, and `s_v` is the
derivative of `s` along the direction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from atomsml.codegen.arrays import Array
from atomsml.codegen.kernels import Code, Kernel, built_once
from atomsml.codegen.machine import whole_vectors
from atomsml.codegen.values import Value, fma
from atomsml.ops.contraction.table import ContractionTable

Vectors = list[Value]
WIDTH = 4  # vectors worked on at once: enough independent sums to keep the arithmetic units busy


def forward(features: Tensor, coefficients: Tensor, species: Tensor, table: ContractionTable) -> Tensor:
    """Output (N, O, C)."""
    x, w = whole_vectors(features), whole_vectors(coefficients)
    out = x.new_empty(len(x), table.num_outputs, x.shape[2])
    _run("forward", table, x.shape, [_scratch(x), x, w, out], species, w.shape[1])
    return out[..., : features.shape[2]]


def backward(
    grad_output: Tensor, features: Tensor, coefficients: Tensor, species: Tensor, table: ContractionTable
) -> Tensor:
    """Gradient of sum(grad_output * output) with respect to the features."""
    g, x, w = whole_vectors(grad_output), whole_vectors(features), whole_vectors(coefficients)
    grad = torch.empty_like(x)
    _run("backward", table, x.shape, [_scratch(x), _scratch(x), g, x, w, grad], species, w.shape[1])
    return grad[..., : features.shape[2]]


def backward_coefficients(
    grad_output: Tensor, features: Tensor, species: Tensor, table: ContractionTable, num_species: int
) -> Tensor:
    """Gradient of sum(grad_output * output) with respect to the coefficients."""
    g, x = whole_vectors(grad_output), whole_vectors(features)
    grad = x.new_zeros(num_species, len(table.index), x.shape[2])
    _run("backward_coefficients", table, x.shape, [_scratch(x), g, x, grad], species, grad.shape[1])
    return grad[..., : features.shape[2]]


def backward_along(
    direction: Tensor,
    grad_output: Tensor,
    features: Tensor,
    coefficients: Tensor,
    species: Tensor,
    table: ContractionTable,
) -> tuple[Tensor, Tensor, Tensor]:
    """Derivatives along a direction of the features (N, D, C): of output, gradient of features and of coefficients."""
    v, g, x, w = (whole_vectors(y) for y in (direction, grad_output, features, coefficients))
    out, grad, grad_w = torch.empty_like(g), torch.empty_like(x), torch.zeros_like(w)
    arrays = [_scratch(x), _scratch(x), _scratch(x), v, g, x, w, out, grad, grad_w]
    _run("backward_along", table, x.shape, arrays, species, w.shape[1])
    channels = features.shape[2]
    return out[..., :channels], grad[..., :channels], grad_w[..., :channels]


def _scratch(features: Tensor) -> Tensor:
    """The components of one atom, and the constant one."""
    return features.new_empty(features.shape[1] + 1, features.shape[2])


def _run(
    kind: str, table: ContractionTable, shape: torch.Size, arrays: Sequence[Tensor], species: Tensor, terms: int
) -> None:
    atoms, components, channels = shape
    indices = [species.contiguous(), table.run, table.run_start, table.third]
    kernel = contraction_kernel(kind, components, table.num_outputs, channels, arrays[0].dtype)
    kernel([*indices, *arrays], atoms, len(table.run), terms)


@built_once
def contraction_kernel(kind: str, components: int, outputs: int, channels: int, dtype: torch.dtype) -> Kernel:
    body, names = {
        "forward": (_forward, ["scratch_x", "x", "w", "out"]),
        "backward": (_backward, ["scratch_x", "scratch_gx", "g", "x", "w", "grad"]),
        "backward_coefficients": (_backward_coefficients, ["scratch_x", "g", "x", "grad_w"]),
        "backward_along": (
            _backward_along,
            ["scratch_x", "scratch_x_v", "scratch_gx_v", "v", "g", "x", "w", "out", "grad", "grad_w"],
        ),
    }[kind]
    indices = ["species_index", "run_index", "run_start_index", "third_index"]
    code = Code(f"contraction_{kind}", indices + names, ["atoms", "runs", "terms"], dtype)

    def atom(n: Value) -> None:
        species = code["species_index"][n]
        rows = {"scratch": code.integer(0), "x": n * components, "out": n * outputs}
        rows |= {"w": species * code.counts["terms"]}
        rows |= {"v": rows["x"], "grad": rows["x"], "g": rows["out"], "grad_w": rows["w"]}
        for first in range(0, channels, WIDTH * code.lanes):
            width = min(WIDTH, (channels - first) // code.lanes)
            body(_Atom(code, (components, outputs, channels), rows, first, width))

    code.loop(0, code.counts["atoms"], atom)
    return code.finish()


class _Atom:
    """Rows of the arrays that belong to one atom, of which some neighbouring channels are looked at."""

    def __init__(self, code: Code, sizes: tuple[int, int, int], rows: dict[str, Value], first: int, width: int) -> None:
        self.code, self.width = code, width
        self.components, self.outputs, self.channels = sizes
        self._rows, self._first = rows, first
        self.zeros: Vectors = [code.zero] * width

    def _row(self, name: str, row: Value | int) -> Array:
        start = self._rows["scratch" if name.startswith("scratch") else name]
        return self.code[name].row(start + row, self.channels, self.code.integer(self._first))

    def load(self, name: str, row: Value | int) -> Vectors:
        found = self._row(name, row)
        return [self.code.load(found, i * self.code.lanes) for i in range(self.width)]

    def store(self, values: Vectors, name: str, row: Value | int) -> None:
        target = self._row(name, row)
        for i, value in enumerate(values):
            self.code.store(value, target, i * self.code.lanes)

    def mul(self, a: Vectors, b: Vectors) -> Vectors:
        return [x * y for x, y in zip(a, b, strict=True)]

    def fma(self, a: Vectors, b: Vectors, c: Vectors) -> Vectors:
        return [fma(*three) for three in zip(a, b, c, strict=True)]

    def add_product(self, a: Vectors, b: Vectors, name: str, row: Value) -> None:
        self.store(self.fma(a, b, self.load(name, row)), name, row)

    def clear(self, name: str, rows: int) -> None:
        for i in range(rows):
            self.store(self.zeros, name, i)

    def copy_components(self, source: str, target: str, last: float) -> None:
        """Rows of one atom to scratch memory, where a constant row follows them."""
        for i in range(self.components):
            self.store(self.load(source, i), target, i)
        self.store([self.code.constant(last)] * self.width, target, self.components)

    def for_each_run(self, body: Callable[[Value, Value, Value, Value], None]) -> None:
        """Call with run, output, first and second factor."""

        def run(r: Value) -> None:
            numbers = self.code["run_index"].row(r, 3)
            body(r, *(numbers[i] for i in range(3)))

        self.code.loop(0, self.code.counts["runs"], run)

    def for_each_term(
        self, run: Value, body: Callable[[Value, Value, list[Vectors]], list[Vectors]], sums: int
    ) -> list[Vectors]:
        """Call with term, third factor and the sums so far; the sums at the end."""
        code, w = self.code, self.width
        first, last = code["run_start_index"][run], code["run_start_index"][run + 1]

        def term(t: Value, *carried: Value) -> Vectors:
            groups = body(t, code["third_index"][t], [list(carried[i * w : i * w + w]) for i in range(sums)])
            return [value for group in groups for value in group]

        final = code.loop(first, last, term, self.zeros * sums)
        return [final[i * w : i * w + w] for i in range(sums)]


def _forward(at: _Atom) -> None:
    at.copy_components("x", "scratch_x", 1.0)
    at.clear("out", at.outputs)

    def run(r: Value, o: Value, i: Value, j: Value) -> None:
        def term(t: Value, k: Value, sums: list[Vectors]) -> list[Vectors]:
            return [at.fma(at.load("w", t), at.load("scratch_x", k), sums[0])]

        (q,) = at.for_each_term(r, term, 1)
        at.add_product(at.mul(at.load("scratch_x", i), at.load("scratch_x", j)), q, "out", o)

    at.for_each_run(run)


def _backward(at: _Atom) -> None:
    at.copy_components("x", "scratch_x", 1.0)
    at.clear("scratch_gx", at.components + 1)

    def run(r: Value, o: Value, i: Value, j: Value) -> None:
        g, xi, xj = at.load("g", o), at.load("scratch_x", i), at.load("scratch_x", j)
        gq = at.mul(g, at.mul(xi, xj))

        def term(t: Value, k: Value, sums: list[Vectors]) -> list[Vectors]:
            w = at.load("w", t)
            at.add_product(w, gq, "scratch_gx", k)
            return [at.fma(w, at.load("scratch_x", k), sums[0])]

        (q,) = at.for_each_term(r, term, 1)
        at.add_product(at.mul(g, xj), q, "scratch_gx", i)
        at.add_product(at.mul(g, xi), q, "scratch_gx", j)

    at.for_each_run(run)
    for i in range(at.components):
        at.store(at.load("scratch_gx", i), "grad", i)


def _backward_coefficients(at: _Atom) -> None:
    at.copy_components("x", "scratch_x", 1.0)

    def run(r: Value, o: Value, i: Value, j: Value) -> None:
        gq = at.mul(at.load("g", o), at.mul(at.load("scratch_x", i), at.load("scratch_x", j)))

        def term(t: Value, k: Value, sums: list[Vectors]) -> list[Vectors]:
            at.add_product(gq, at.load("scratch_x", k), "grad_w", t)
            return sums

        at.for_each_term(r, term, 0)

    at.for_each_run(run)


def _backward_along(at: _Atom) -> None:
    at.copy_components("x", "scratch_x", 1.0)
    at.copy_components("v", "scratch_x_v", 0.0)
    at.clear("scratch_gx_v", at.components + 1)
    at.clear("out", at.outputs)

    def run(r: Value, o: Value, i: Value, j: Value) -> None:
        g, xi, xj = at.load("g", o), at.load("scratch_x", i), at.load("scratch_x", j)
        xi_v, xj_v = at.load("scratch_x_v", i), at.load("scratch_x_v", j)
        product, product_v = at.mul(xi, xj), at.fma(xi_v, xj, at.mul(xi, xj_v))
        gq, gq_v = at.mul(g, product), at.mul(g, product_v)

        def term(t: Value, k: Value, sums: list[Vectors]) -> list[Vectors]:
            w, x, x_v = at.load("w", t), at.load("scratch_x", k), at.load("scratch_x_v", k)
            at.add_product(w, gq_v, "scratch_gx_v", k)
            at.store(at.fma(gq_v, x, at.fma(gq, x_v, at.load("grad_w", t))), "grad_w", t)
            return [at.fma(w, x, sums[0]), at.fma(w, x_v, sums[1])]

        q, q_v = at.for_each_term(r, term, 2)
        at.store(at.fma(product_v, q, at.fma(product, q_v, at.load("out", o))), "out", o)
        at.add_product(g, at.fma(xj_v, q, at.mul(xj, q_v)), "scratch_gx_v", i)
        at.add_product(g, at.fma(xi_v, q, at.mul(xi, q_v)), "scratch_gx_v", j)

    at.for_each_run(run)
    for i in range(at.components):
        at.store(at.load("scratch_gx_v", i), "grad", i)
