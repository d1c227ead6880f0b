"""GPU kernels of the equivariant convolution in Triton: forward, backward and double backward.

Notation as in convolution_cpu.py: h features, y harmonics, r weights, g the gradient of the output, v cotangents of the
backward. Over the edges into one receiver

    out(o) = sum over a, b of C[a, b, o] M(a, b)      M(a, b) = sum over edges of h(a) r y(b)
    U(a, b) = sum over o of C[a, b, o] g(o)           q(a) = sum over b of U(a, b) y(b)
    grad_h(a) = r q(a)    grad_r = sum over a of h(a) q(a)    grad_y(b) = sum over a, c of h(a) r U(a, b)

and the double backward adds up these formulas with one of h, y, r after the other replaced by its v.

A program takes one receiver, one warp of channels, and the paths of one l1, whose M or U it keeps in registers. No two
programs write to the same place, so that nothing is atomic and equal input gives equal bits: gradients that edges share
(h of a sender, r of a pair) are written for each edge and summed in a second pass, in the order of the edges.

The coefficients C are constants of the code. It is written out as text, without loops over components and paths:
`convolution_source` shows it.
"""

from __future__ import annotations

import linecache
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Literal

import torch
import triton
import triton.language as tl
from torch import Tensor

from atomsml.ops.convolution.table import ConvolutionTable, Edges

Kind = Literal["forward", "backward", "double_backward"]
CHANNELS = 64 if torch.version.hip else 32  # of one program: one thread each, in one warp, which needs no barriers
COLUMNS = 256  # of one program that sums rows


def forward(h: Tensor, y: Tensor, r: Tensor, edges: Edges, table: ConvolutionTable) -> list[Tensor]:
    out = [h.new_empty(len(h), 2 * l + 1, len(paths), h.shape[2]) for l, paths in table.by_degree.items()]
    _run("forward", table, edges, [h, y, r], out)
    return out


def backward(
    g: Sequence[Tensor], h: Tensor, y: Tensor, r: Tensor, edges: Edges, table: ConvolutionTable
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of sum(g * out) with respect to h, y and r."""
    grads = _gradients_of_edges(h, y, r, edges, table)
    _run("backward", table, edges, [h, y, r, *g], grads)
    return _sum_gradients(grads, h, r, edges)


def double_backward(
    vh: Tensor,
    vy: Tensor,
    vr: Tensor,
    g: Sequence[Tensor],
    h: Tensor,
    y: Tensor,
    r: Tensor,
    edges: Edges,
    table: ConvolutionTable,
) -> tuple[list[Tensor], Tensor, Tensor, Tensor]:
    """Gradients of sum(vh * grad_h) + sum(vy * grad_y) + sum(vr * grad_r) with respect to g, h, y and r."""
    grad_g, grads = [x.new_empty(x.shape) for x in g], _gradients_of_edges(h, y, r, edges, table)
    _run("double_backward", table, edges, [h, y, r, *g, vh, vy, vr], [*grads, *grad_g])
    return grad_g, *_sum_gradients(grads, h, r, edges)


def _gradients_of_edges(h: Tensor, y: Tensor, r: Tensor, edges: Edges, table: ConvolutionTable) -> list[Tensor]:
    """Memory for what each edge adds to the gradients of h, y and r; y once for each program that has the edge."""
    parts = (table.lmax_in + 1) * triton.cdiv(h.shape[2], CHANNELS)
    return [
        h.new_empty(len(edges.sender), *h.shape[1:]),
        y.new_empty(len(y), parts, y.shape[1]),
        r.new_empty(len(edges.sender), *r.shape[1:]),
    ]


def _sum_gradients(grads: Sequence[Tensor], h: Tensor, r: Tensor, edges: Edges) -> tuple[Tensor, Tensor, Tensor]:
    grad_h, grad_y, grad_r = grads
    return (
        sum_rows(grad_h, edges.sender, edges.by_sender, len(h)),
        grad_y.sum(1),
        sum_rows(grad_r, edges.weight_row, edges.by_weight_row, len(r)),
    )


def sum_rows(values: Tensor, index: Tensor, order: Tensor, count: int) -> Tensor:
    """out[i] = sum of values[k] over k with index[k] = i < count, in the order of k; `order` sorts `index` (stable)."""
    out = values.new_empty(count, *values.shape[1:])
    start = torch.searchsorted(index[order], torch.arange(count + 1, device=index.device))
    columns = out[0].numel() if count else 0
    if columns:
        with torch.cuda.device_of(out):
            _sum_rows[count, triton.cdiv(columns, COLUMNS)](values, order, start, out, columns, COLUMNS)
    return out


@triton.jit
def _sum_rows(values, order, start, out, columns, COLUMNS: tl.constexpr):  # type: ignore[no-untyped-def]
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < columns
    total = tl.zeros((COLUMNS,), values.dtype.element_ty)
    for i in range(tl.load(start + row), tl.load(start + row + 1)):
        total += tl.load(values + tl.load(order + i) * columns + column, inside, 0.0)
    tl.store(out + row * columns + column, total, inside)


def _run(
    kind: Kind, table: ConvolutionTable, edges: Edges, inputs: Sequence[Tensor], outputs: Sequence[Tensor]
) -> None:
    atoms, _, channels = inputs[0].shape
    indices = [x.contiguous() for x in (edges.row_start, edges.sender, edges.weight_row)]
    if atoms and channels:
        grid = (atoms, triton.cdiv(channels, CHANNELS), table.lmax_in + 1)
        arrays = [*indices, *(x.contiguous() for x in inputs), *outputs]
        with torch.cuda.device_of(inputs[0]):
            convolution_kernel(kind, table)[grid](*arrays, channels, CHANNELS, num_warps=1, enable_fp_fusion=True)


@lru_cache
def convolution_kernel(kind: Kind, table: ConvolutionTable) -> Any:
    """The compiled function of `convolution_source`."""
    source = convolution_source(kind, table)
    # Triton reads the source of a function from its file; of one without a file, from this cache
    file = f"<convolution {kind} of {table.paths}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    names: dict[str, Any] = {"__name__": __name__, "tl": tl}
    exec(compile(source, file, "exec"), names)
    return triton.jit(names[kind])


def convolution_source(kind: Kind, table: ConvolutionTable) -> str:
    """Text of the Triton function of one convolution."""
    g, grad_g, out = ([f"{name}{l}" for l in table.by_degree] for name in ("g", "grad_g", "out"))
    grads = ["grad_h", "grad_y", "grad_r"]
    arrays = {
        "forward": ["h", "y", "r", *out],
        "backward": ["h", "y", "r", *g, *grads],
        "double_backward": ["h", "y", "r", *g, "vh", "vy", "vr", *grads, *grad_g],
    }[kind]
    code = _Code(table)
    arguments = ["row_start", "sender", "weight_row", *arrays, "channels: tl.constexpr", "BLOCK: tl.constexpr"]
    with code.block(f"def {kind}({', '.join(arguments)})"):
        code.lines("n = tl.program_id(0).to(tl.int64)", "c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)")
        code.lines("inside = c < channels", "zero = tl.zeros((BLOCK,), h.dtype.element_ty)")
        code.lines("first, last = tl.load(row_start + n), tl.load(row_start + n + 1)")
        for l1 in range(table.lmax_in + 1):
            with code.block(f"if tl.program_id(2) == {l1}"):
                if kind == "forward":
                    _sum_over_edges(code, l1, "out", double=False)
                else:
                    _gradients(code, l1, double=kind == "double_backward")
                if kind == "double_backward":
                    _sum_over_edges(code, l1, "grad_g", double=True)
    return code.text


class _Code:
    """Lines of a Triton function. Local variables have the names of the docstring with the numbers of path, a, b, o;
    a and b count the components of all degrees."""

    def __init__(self, table: ConvolutionTable) -> None:
        self.table, self.text, self._indent = table, "", 0

    def lines(self, *lines: str) -> None:
        self.text += "".join(f"{' ' * self._indent}{line}\n" for line in lines)

    @contextmanager
    def block(self, header: str) -> Iterator[None]:
        self.lines(f"{header}:")
        self._indent += 4
        yield
        self._indent -= 4

    def couplings(self, l1: int) -> dict[int, dict[tuple[int, int], dict[int, float]]]:
        """Path from l1 -> (a, b) -> o -> coefficient, the zeros left out."""
        found: dict[int, dict[tuple[int, int], dict[int, float]]] = {}
        for p, (from_l1, l2, _) in enumerate(self.table.paths):
            if from_l1 == l1:
                coefficients, found[p] = self.table.coefficients(p), {}
                for a, b, o in zip(*(x.tolist() for x in coefficients.nonzero()), strict=True):
                    pair = found[p].setdefault((l1 * l1 + a, l2 * l2 + b), {})
                    pair[o] = float(coefficients[a, b, o])
        return found

    def of_receiver(self, name: str, p: int, o: int) -> str:
        """Address of component o of path p in g or an output."""
        l3 = self.table.paths[p][2]
        paths = self.table.by_degree[l3]
        return f"{name}{l3} + ((n * {2 * l3 + 1} + {o}) * {len(paths)} + {paths.index(p)}) * channels + c"

    @contextmanager
    def each_edge(self, l1: int, double: bool) -> Iterator[None]:
        """Loop over the edges e of the receiver, with h, r, y and perhaps vh, vr, vy in registers."""
        couplings, marks = self.couplings(l1), ["", "v"] if double else [""]
        harmonics = sorted({b for pairs in couplings.values() for _, b in pairs})
        with self.block("for e in range(first, last)"):
            self.lines("s, w = tl.load(sender + e), tl.load(weight_row + e)")
            for v in marks:
                self.lines(f"{v}h_row = {v}h + s * {self.table.dim_in} * channels + c")
                self.lines(f"{v}r_row = {v}r + w * {len(self.table.paths)} * channels + c")
                for name, numbers in (("h", components(l1)), ("r", couplings)):
                    for i in numbers:
                        self.lines(f"{v}{name}_{i} = tl.load({v}{name}_row + {i} * channels, inside, 0.0)")
                self.lines(*(f"{v}y_{b} = tl.load({v}y + e * {self.table.dim_harmonics} + {b})" for b in harmonics))
            yield


def components(l: int) -> range:
    """Numbers of the components of degree l among those of all degrees."""
    return range(l * l, (l + 1) ** 2)


def _sum_over_edges(code: _Code, l1: int, target: str, double: bool) -> None:
    """M of the edges, then out."""
    couplings = code.couplings(l1)
    for p, pairs in couplings.items():
        code.lines(*(f"m_{p}_{a}_{b} = zero" for a, b in pairs))
    with code.each_edge(l1, double):
        for p, pairs in couplings.items():
            for a in components(l1):
                code.lines(f"x = h_{a} * r_{p}")
                if double:
                    code.lines(f"xv = vh_{a} * r_{p} + h_{a} * vr_{p}")
                for b in (b for other, b in pairs if other == a):
                    code.lines(f"m_{p}_{a}_{b} += " + (f"xv * y_{b} + x * vy_{b}" if double else f"x * y_{b}"))
    for p, pairs in couplings.items():
        for o in range(2 * code.table.paths[p][2] + 1):
            terms = [f"{weights[o]!r} * m_{p}_{a}_{b}" for (a, b), weights in pairs.items() if o in weights]
            code.lines(f"tl.store({code.of_receiver(target, p, o)}, {' + '.join(terms) or 'zero'}, inside)")


def _gradients(code: _Code, l1: int, double: bool) -> None:
    """U of the receiver, then what each edge adds to the gradients of h, y and r."""
    couplings, table = code.couplings(l1), code.table
    for p, pairs in couplings.items():
        for o in range(2 * table.paths[p][2] + 1):
            code.lines(f"g_{o} = tl.load({code.of_receiver('g', p, o)}, inside, 0.0)")
        for (a, b), weights in pairs.items():
            code.lines(f"u_{p}_{a}_{b} = " + " + ".join(f"{weight!r} * g_{o}" for o, weight in weights.items()))
    with code.each_edge(l1, double):
        code.lines(*(f"grad_h_{a} = zero" for a in components(l1)))
        code.lines(*(f"grad_y_{b} = zero" for b in range(table.dim_harmonics)))
        for p, pairs in couplings.items():
            code.lines("grad_r_p = zero")
            for a in components(l1):
                row = [b for other, b in pairs if other == a]
                x = f"vh_{a} * r_{p} + h_{a} * vr_{p}" if double else f"h_{a} * r_{p}"
                code.lines(f"x = {x}", f"q = {_dot([f'u_{p}_{a}_{b}' for b in row], [f'y_{b}' for b in row])}")
                code.lines(*(f"grad_y_{b} += x * u_{p}_{a}_{b}" for b in row))
                if double:
                    code.lines(f"qv = {_dot([f'u_{p}_{a}_{b}' for b in row], [f'vy_{b}' for b in row])}")
                    code.lines(f"grad_h_{a} += r_{p} * qv + vr_{p} * q", f"grad_r_p += h_{a} * qv + vh_{a} * q")
                else:
                    code.lines(f"grad_h_{a} += r_{p} * q", f"grad_r_p += h_{a} * q")
            code.lines(f"tl.store(grad_r + (e * {len(table.paths)} + {p}) * channels + c, grad_r_p, inside)")
        for a in components(l1):
            code.lines(f"tl.store(grad_h + (e * {table.dim_in} + {a}) * channels + c, grad_h_{a}, inside)")
        code.lines(f"part = (e * tl.num_programs(1) + tl.program_id(1)) * {table.lmax_in + 1} + {l1}")
        for b in range(table.dim_harmonics):
            code.lines(f"tl.store(grad_y + part * {table.dim_harmonics} + {b}, tl.sum(grad_y_{b}, 0))")


def _dot(left: Sequence[str], right: Sequence[str]) -> str:
    return " + ".join(f"{a} * {b}" for a, b in zip(left, right, strict=True)) or "zero"
