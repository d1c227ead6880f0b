"""Functions of vectors of numbers inside kernels, to rounding, without calls: LLVM would take the lanes one by one."""

from __future__ import annotations

import math

from llvmlite import ir

from atomsml.codegen.values import Value, constant, fma

# of the kinds of floating point: bits before the exponent, terms of the series, least and largest argument, and the
# parts of log 2, of which the first has so few bits that products with whole numbers are exact
FACTS = {
    32: (23, 8, -86.0, 88.0, (0.693359375, -2.12194440054690583e-4)),
    64: (52, 14, -707.0, 709.0, (6.93145751953125e-1, 1.42860682030941723212e-6)),
}


def exp(x: Value) -> Value:
    """2^n e^r with x = n log 2 + r, |r| <= log(2) / 2, e^r by its series; of what has no exponent, the closest one."""
    builder, kind = x.builder, x.kind
    bits = 32 if isinstance(kind.element, ir.FloatType) else 64
    mantissa, terms, least, largest, parts = FACTS[bits]
    x = x.greatest(least).least(largest)
    shift = constant(builder, 1.5 * 2.0**mantissa, kind)  # added, it leaves whole numbers in the last bits
    shifted = fma(x, constant(builder, 1 / math.log(2), kind), shift)
    n = shifted - shift
    r = x
    for part in parts:
        r = fma(n, constant(builder, -part, kind), r)
    series = constant(builder, 1 / math.factorial(terms - 1), kind)
    for k in reversed(range(terms - 1)):
        series = fma(series, r, constant(builder, 1 / math.factorial(k), kind))
    integers = ir.VectorType(ir.IntType(bits), kind.count)
    exponent = builder.shl(builder.bitcast(shifted.raw, integers), ir.Constant(integers, [mantissa] * kind.count))
    scaled = builder.add(builder.bitcast(series.raw, integers), exponent)
    return Value(builder, builder.bitcast(scaled, kind))


def sigmoid(x: Value) -> Value:
    """1 / (1 + e^-x)"""
    return 1.0 / (exp(-x) + 1.0)
