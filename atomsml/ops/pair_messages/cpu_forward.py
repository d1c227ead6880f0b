"""The kernel of the equations in operation.py, one sample after the other."""

from __future__ import annotations

import torch

from atomsml.codegen.arrays import Array
from atomsml.codegen.kernels import Code, Kernel, built_once
from atomsml.codegen.values import Value, fma
from atomsml.codegen.vector_functions import sigmoid
from atomsml.ops.pair_messages.cpu_parts import Pairs, Sizes, silu, spans

INPUTS = ["z", "receiver", "sender", "logarithms", "units", "v", "others", "geometry", "message", "ends"]
OUTPUTS = ["out", "gathered", "moved", "p", "h", "e", "scratch"]


@built_once
def forward_kernel(sizes: Sizes, dtype: torch.dtype) -> Kernel:
    """`out` is z + m, `moved` the sums of vectors; `p` and `h` are arguments of the activations, `e` gates and vectors.

    Those three have a place for every sample if `keep` is 1, and one for all if it is 0.
    """
    code = Code("pair_messages", [*INPUTS, *OUTPUTS], ["first", "last", "nodes", "keep"], dtype)
    pairs = Pairs(code, sizes, code.counts["nodes"])
    channels, count, nodes = sizes.channels, pairs.pairs, pairs.nodes

    def sample(b: Value) -> None:
        def of(name: str, rows: Value, width: int) -> Array:
            return code[name].row(b, rows * width)

        def kept(name: str, width: int) -> Array:
            return code[name].row(b * code.counts["keep"], count * width)

        p, h, e, scratch = kept("p", channels), kept("h", channels), kept("e", sizes.ends), code["scratch"]
        z, out, units, others = (
            of("z", count, channels),
            of("out", count, channels),
            of("units", count, 3),
            of("others", count, 1),
        )
        receiver, sender = of("receiver", nodes, channels), of("sender", nodes, channels)

        def first_activation(i: Value, j: Value, ij: Value) -> None:
            for c, lanes in spans(channels, code.lanes):
                parts = [p.row(ij, channels), z.row(ij, channels), receiver.row(i, channels), sender.row(j, channels)]
                argument = 0.5 * sum((x.vector(c, lanes) for x in parts[1:]), parts[0].vector(c, lanes))
                parts[0].set_vector(argument, c)
                scratch.row(ij, channels).set_vector(silu(argument), c)

        def second_activation(i: Value, j: Value, ij: Value) -> None:
            for c, lanes in spans(channels, code.lanes):
                m = silu(h.row(ij, channels).vector(c, lanes)) * others[ij].splat(lanes)
                scratch.row(ij, channels).set_vector(m, c)
                out.row(ij, channels).set_vector(z.row(ij, channels).vector(c, lanes) + m, c)

        pairs.write_features(of("logarithms", count, 1), units, of("v", nodes, 3 * sizes.vectors), scratch)
        pairs.multiply(scratch, sizes.features, code["geometry"], p, channels)
        pairs.each(first_activation)
        pairs.multiply(scratch, channels, code["message"], h, channels)
        pairs.each(second_activation)
        pairs.multiply(scratch, channels, code["ends"], e, sizes.ends)
        gathered, moved = of("gathered", nodes, channels), of("moved", nodes, 3 * sizes.vectors)
        _gather(pairs, scratch, units, e, gathered, moved)

    code.loop(code.counts["first"], code.counts["last"], sample)
    return code.finish()


def _gather(pairs: Pairs, m: Array, units: Array, e: Array, gathered: Array, moved: Array) -> None:
    """What each atom has of its messages; numbers of gates in `e` become the gates."""
    code, sizes, nodes = pairs.code, pairs.sizes, pairs.nodes
    vectors = list(spans(sizes.vectors, code.lanes))

    def receiver(i: Value) -> None:
        def sender(j: Value, *sums: Value) -> list[Value]:
            ij = i * nodes + j
            row, end, unit = m.row(ij, sizes.channels), e.row(ij, sizes.ends), units.row(ij, 3)
            for q, lanes in spans(sizes.gates, code.lanes):
                end.set_vector(sigmoid(end.vector(q, lanes)), q)
            updated = [
                fma(end[q].splat(sizes.gated), row.vector(q * sizes.gated, sizes.gated), sums[q])
                for q in range(sizes.gates)
            ]
            ends = [(unit[k], end.vector(sizes.gates + c, lanes)) for k in range(3) for c, lanes in vectors]
            moves = zip(ends, sums[sizes.gates :], strict=True)
            return updated + [fma(number.splat(x.kind.count), x, so_far) for (number, x), so_far in moves]

        widths = [sizes.gated] * sizes.gates + [lanes for _ in range(3) for _, lanes in vectors]
        sums = code.loop(0, nodes, sender, [code.zeros(lanes) for lanes in widths])
        for q in range(sizes.gates):
            gathered.row(i, sizes.channels).set_vector(sums[q], q * sizes.gated)
        places = [k * sizes.vectors + c for k in range(3) for c, _ in vectors]
        for place, value in zip(places, sums[sizes.gates :], strict=True):
            moved.row(i, 3 * sizes.vectors).set_vector(value, place)

    code.loop(0, nodes, receiver)
