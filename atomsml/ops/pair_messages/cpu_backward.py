"""The kernel of the derivatives: the equations of operation.py from the last to the first, sample by sample."""

from __future__ import annotations

import torch

from atomsml.codegen.arrays import Array
from atomsml.codegen.kernels import Code, Kernel, built_once
from atomsml.codegen.values import Value, dot, fma, total
from atomsml.ops.pair_messages.cpu_parts import SHARPNESS, Pairs, Sizes, lane_sum, silu_and_slope, spans
from atomsml.ops.pair_messages.table import DISTANCES, LOWEST

GRADIENTS = ["by_out", "by_gathered", "by_moved"]
SAVED = ["logarithms", "units", "v", "others", "geometry", "message", "ends", "p", "h", "e"]  # matrices are transposed
INPUTS = ["by_z", "by_receiver", "by_sender", "by_logarithms", "by_units", "by_v"]
MATRICES = ["by_geometry", "by_message", "by_ends"]


@built_once
def backward_kernel(sizes: Sizes, dtype: torch.dtype) -> Kernel:
    """Adds to the gradients of v, the senders and the matrices, which begin as zeros; sets all others."""
    code = Code(
        "pair_messages_backward", [*GRADIENTS, *SAVED, *INPUTS, *MATRICES, "scratch"], ["first", "last", "nodes"], dtype
    )
    pairs = Pairs(code, sizes, code.counts["nodes"])
    channels, count, nodes = sizes.channels, pairs.pairs, pairs.nodes
    a, b, c = (code["scratch"] + count * (k * sizes.widest) for k in range(3))  # one molecule's, used again and again
    by_e = code["scratch"] + count * (3 * sizes.widest)

    def sample(number: Value) -> None:
        def of(name: str, rows: Value, width: int) -> Array:
            return code[name].row(number, rows * width)

        p, h, e = of("p", count, channels), of("h", count, channels), of("e", count, sizes.ends)
        by_z, by_out = of("by_z", count, channels), of("by_out", count, channels)
        units, by_units = of("units", count, 3), of("by_units", count, 3)
        logarithms, v, others = of("logarithms", count, 1), of("v", nodes, 3 * sizes.vectors), of("others", count, 1)
        by_gathered, by_moved = of("by_gathered", nodes, channels), of("by_moved", nodes, 3 * sizes.vectors)
        by_receiver, by_sender = of("by_receiver", nodes, channels), of("by_sender", nodes, channels)

        def message(i: Value, j: Value, ij: Value) -> None:
            """a = m, c = its slope; by_e and by_units of gates and vectors, b of m as far as it is known."""
            for begin, lanes in spans(channels, code.lanes):
                value, slope = silu_and_slope(h.row(ij, channels).vector(begin, lanes))
                other = others[ij].splat(lanes)
                a.row(ij, channels).set_vector(value * other, begin)
                c.row(ij, channels).set_vector(slope * other, begin)
            _gates(sizes, a, e, by_gathered, by_out, by_e, b, i, ij)
            _moves(pairs, units, e, by_moved, by_e, by_units, i, ij)

        def second_activation(i: Value, j: Value, ij: Value) -> None:
            """b becomes the derivative by h, a the first activation."""
            for begin, lanes in spans(channels, code.lanes):
                row = b.row(ij, channels)
                row.set_vector(row.vector(begin, lanes) * c.row(ij, channels).vector(begin, lanes), begin)
                value, _ = silu_and_slope(p.row(ij, channels).vector(begin, lanes))
                a.row(ij, channels).set_vector(value, begin)

        def first_activation(i: Value, j: Value, ij: Value) -> None:
            """c becomes the derivative by what p is half of."""
            for begin, lanes in spans(channels, code.lanes):
                _, slope = silu_and_slope(p.row(ij, channels).vector(begin, lanes))
                value = 0.5 * c.row(ij, channels).vector(begin, lanes) * slope
                c.row(ij, channels).set_vector(value, begin)
                by_z.row(ij, channels).set_vector(by_out.row(ij, channels).vector(begin, lanes) + value, begin)
                mine = by_sender.row(j, channels)
                mine.set_vector(mine.vector(begin, lanes) + value, begin)

        pairs.each(message)
        pairs.add_gram(a, channels, by_e, sizes.ends, code["by_ends"])
        pairs.multiply(by_e, sizes.ends, code["ends"], b, channels, accumulate=True)
        pairs.each(second_activation)
        pairs.add_gram(a, channels, b, channels, code["by_message"])
        pairs.multiply(b, channels, code["message"], c, channels)
        pairs.each(first_activation)
        _sum_senders(pairs, c, by_receiver)
        pairs.write_features(logarithms, units, v, a)
        pairs.add_gram(a, sizes.features, c, channels, code["by_geometry"])
        pairs.multiply(c, channels, code["geometry"], b, sizes.features)
        by_v, by_logarithms = of("by_v", nodes, 3 * sizes.vectors), of("by_logarithms", count, 1)
        _features(pairs, b, logarithms, units, v, by_logarithms, by_units, by_v)

    code.loop(code.counts["first"], code.counts["last"], sample)
    return code.finish()


def _gates(
    sizes: Sizes, m: Array, e: Array, by_gathered: Array, by_out: Array, by_e: Array, by_m: Array, i: Value, ij: Value
) -> None:
    for q in range(sizes.gates):
        begin, lanes = q * sizes.gated, sizes.gated
        mine, gate = by_gathered.row(i, sizes.channels).vector(begin, lanes), e.row(ij, sizes.ends)[q]
        slope = lane_sum(mine * m.row(ij, sizes.channels).vector(begin, lanes))
        by_e.row(ij, sizes.ends)[q] = slope * gate * (1.0 - gate)
        straight = by_out.row(ij, sizes.channels).vector(begin, lanes)
        by_m.row(ij, sizes.channels).set_vector(fma(gate.splat(lanes), mine, straight), begin)


def _moves(
    pairs: Pairs, units: Array, e: Array, by_moved: Array, by_e: Array, by_units: Array, i: Value, ij: Value
) -> None:
    sizes, unit = pairs.sizes, units.row(ij, 3)
    along: list[list[Value]] = [[], [], []]
    for begin, lanes in spans(sizes.vectors, pairs.code.lanes):
        mine = [by_moved.row(i, 3 * sizes.vectors).vector(k * sizes.vectors + begin, lanes) for k in range(3)]
        moved = dot((unit[k].splat(lanes), mine[k]) for k in range(3))
        by_e.row(ij, sizes.ends).set_vector(moved, sizes.gates + begin)
        vector = e.row(ij, sizes.ends).vector(sizes.gates + begin, lanes)
        for k in range(3):
            along[k].append(lane_sum(mine[k] * vector))
    by_units.row(ij, 3).fill([total(parts) for parts in along])


def _sum_senders(pairs: Pairs, x: Array, out: Array) -> None:
    """out[i] = sum over j of x[i, j]."""
    code, channels, nodes = pairs.code, pairs.sizes.channels, pairs.nodes
    columns = list(spans(channels, code.lanes))

    def receiver(i: Value) -> None:
        def sender(j: Value, *sums: Value) -> list[Value]:
            row = x.row(i * nodes + j, channels)
            return [so_far + row.vector(*column) for so_far, column in zip(sums, columns, strict=True)]

        sums = code.loop(0, nodes, sender, [code.zeros(lanes) for _, lanes in columns])
        for (begin, _), value in zip(columns, sums, strict=True):
            out.row(i, channels).set_vector(value, begin)

    code.loop(0, nodes, receiver)


def _features(
    pairs: Pairs,
    by_f: Array,
    logarithms: Array,
    units: Array,
    v: Array,
    by_logarithms: Array,
    by_units: Array,
    by_v: Array,
) -> None:
    """From the derivatives by f_ij those by distances, directions and vectors."""
    code, vectors = pairs.code, pairs.sizes.vectors

    def pair(i: Value, j: Value, ij: Value) -> None:
        row, unit = by_f.row(ij, pairs.sizes.features), units.row(ij, 3)
        slopes = []
        for begin, lanes in spans(DISTANCES, code.lanes):
            value, scaled = pairs.gaussians(logarithms[ij], begin, lanes)
            slope = -2.0 * SHARPNESS * scaled * value * row.vector(begin, lanes)
            slopes.append(lane_sum((scaled * scaled < LOWEST).select(slope, code.zeros(lanes))))
        by_logarithms[ij] = total(slopes)
        along: list[list[Value]] = [[], [], []]
        for begin, lanes in spans(vectors, code.lanes):
            for place, node in enumerate((i, j)):
                mine, target = v.row(node, 3 * vectors), by_v.row(node, 3 * vectors)
                given = row.vector(DISTANCES + place * vectors + begin, lanes)
                given = -given if place else given
                for k in range(3):
                    column = k * vectors + begin
                    along[k].append(lane_sum(given * mine.vector(column, lanes)))
                    target.set_vector(fma(unit[k].splat(lanes), given, target.vector(column, lanes)), column)
        for k in range(3):
            by_units[3 * ij + k] = by_units[3 * ij + k] + total(along[k])

    pairs.each(pair)
