"""The tables and the picture of tensor_products.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from atomsml.nn.tensor_products import all_paths, gaunt_weights
from atomsml.o3 import clebsch_gordan
from benchmarks.shared.reporting import processor, table, three_digits

FULL, GRID, FOURIER, COMPILED = "full", "Gaunt, grid", "Gaunt, Fourier", "Gaunt, compiled"
FULL_Y, KERNEL, SO2, FRAMES = "full, one pair at a time", "full, summed over neighbours", "SO(2)", "frames of SO(2)"
FEATURES, HARMONICS = (FULL, GRID, FOURIER, COMPILED), (FULL_Y, KERNEL, SO2, FRAMES)
NONZERO = "full, nonzero"
FITTED = range(1, 7)


@dataclass(frozen=True)
class Measured:
    pairs: int
    channels: int
    neighbors: int
    seconds: dict[str, dict[int, float]]  # for all pairs; by product, then lmax
    flops: dict[str, dict[int, float]]  # per pair and channel


def report(measured: Measured) -> str:
    full, summed, so2 = (measured.seconds[name][6] for name in (FULL_Y, KERNEL, SO2))
    fewer = measured.flops[FULL_Y][6] / measured.flops[SO2][6]
    parts = [
        f"{processor()}, one thread; torch {torch.__version__}, float32; {measured.pairs} pairs, {measured.channels} "
        "channels. Exponents k are those of lmax^k, fitted over lmax 1 to 6.",
        "### Two features\n\nMilliseconds.",
        cost_table(measured.seconds, FEATURES, 1e3),
        "### A feature and the harmonics of a direction\n\nMilliseconds. The columns *full* couple every path; the "
        f"second of them is the compiled convolution, in which {measured.neighbors} pairs share a receiver.",
        cost_table(measured.seconds, HARMONICS, 1e3),
        f"At lmax 6 the SO(2) product is {three_digits(full / so2)} times as fast as the full product of one pair at a "
        f"time, and takes {three_digits(fewer)} times fewer FLOPs; it takes {three_digits(so2 / summed)} times as long "
        "as the compiled convolution.",
        "### FLOPs per pair and channel\n\n*Full, nonzero* counts what coefficients other than zero would need in the "
        "full product of two features.",
        cost_table({**measured.flops, NONZERO: nonzero_flops()}, (FULL, NONZERO, GRID, FOURIER, FULL_Y, SO2), 1),
        "### What they can do",
        power_table(measured),
        "![cost of tensor products against lmax](images/tensor-products.png)",
    ]
    return "\n\n".join(part.strip() for part in parts)


def cost_table(costs: dict[str, dict[int, float]], names: Sequence[str], unit: float) -> str:
    rows = [
        [str(lmax), *[three_digits(unit * costs[name][lmax]) if lmax in costs[name] else "" for name in names]]
        for lmax in costs[names[0]]
    ]
    fitted = [f"{exponent(costs[name]):.1f}" for name in names]
    return table(["lmax", *names], [*rows, ["**k**", *fitted]])


def exponent(costs: dict[int, float]) -> float:
    """k of the line log(cost) = k log(lmax) + constant of least squares."""
    return float(np.polyfit(np.log(FITTED), np.log([costs[lmax] for lmax in FITTED]), 1)[0])


def nonzero_flops() -> dict[int, float]:
    """Two multiplications and an addition for each coefficient that is not zero."""
    counts = {}
    for lmax in range(1, 9):
        coefficients = [clebsch_gordan(*path) for path in all_paths(lmax)]
        counts[lmax] = 3.0 * sum(int((c.abs() > 1e-12).sum()) for c in coefficients)
    return counts


def power_table(measured: Measured) -> str:
    rows = []
    for lmax in measured.seconds[FULL]:
        paths, maps = all_paths(lmax), independent_maps(lmax)
        interacting = int((gaunt_weights(paths).abs() > 1e-12).sum())
        times = [measured.seconds[name].get(lmax, 0) / measured.pairs / maps[name] for name in FEATURES]
        rows.append(
            [
                str(lmax),
                str(len(paths)),
                f"{interacting} ({interacting / len(paths):.0%})",
                str(maps[FULL]),
                str(maps[GRID]),
                *[three_digits(1e6 * x) if x else "" for x in times],
            ]
        )
    header = ["lmax", "triples", "interact in Gaunt", "maps, full", "maps, Gaunt"]
    return table([*header, *[f"us per pair and map, {name}" for name in FEATURES]], rows)


def independent_maps(lmax: int) -> dict[str, int]:
    """Dimension of the set of equivariant bilinear maps that each product spans, with one channel in and one out.

    The full product has a weight for each path. A Gaunt product can be scaled for each degree of x, y and z: the
    weights are a[l1] b[l2] c[l3] times fixed numbers, and their logarithms a linear map of those of a, b and c.
    """
    even = all_paths(lmax, odd=False)
    scales = np.zeros((len(even), 3, lmax + 1))
    for p, path in enumerate(even):
        scales[p, range(3), path] = 1
    gaunt = int(np.linalg.matrix_rank(scales.reshape(len(even), -1)))
    return {FULL: len(all_paths(lmax)), GRID: gaunt, FOURIER: gaunt, COMPILED: gaunt}


def draw(measured: Measured, path: Path) -> None:
    """Against lmax: time of two products of features, of products with harmonics, FLOPs, and time per map."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    per_map = {
        name: {l: s / measured.pairs / independent_maps(l)[name] for l, s in measured.seconds[name].items()}
        for name in FEATURES
    }
    panels = (
        ("time, two features", "ms", 1e3, measured.seconds, FEATURES),
        ("time, feature and harmonics", "ms", 1e3, measured.seconds, HARMONICS),
        ("operations", "FLOPs per pair and channel", 1.0, measured.flops, tuple(measured.flops)),
        ("time for each independent map", "us per pair", 1e6, per_map, FEATURES),
    )
    colors = {name: f"C{i}" for i, name in enumerate((*FEATURES, *HARMONICS))}
    figure, axes = plt.subplots(2, 2, figsize=(9, 7.5), layout="constrained")
    for axis, (title, label, unit, costs, names) in zip(axes.flat, panels, strict=True):
        for name in names:
            lmax, values = list(costs[name]), [unit * value for value in costs[name].values()]
            axis.plot(lmax, values, marker="o", markersize=4, color=colors[name], label=name)
        axis.set(title=title, xlabel="lmax", ylabel=label, xscale="log", yscale="log")
        axis.set_xticks(range(1, 9), labels=[str(lmax) for lmax in range(1, 9)])
        axis.set_xticks([], minor=True)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.savefig(path, dpi=100)
    plt.close(figure)
