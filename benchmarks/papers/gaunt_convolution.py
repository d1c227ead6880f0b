"""Convolutions by Gaunt products, with the filter about its own direction: time beside the direct products.

    taskset -c 1 python -m benchmarks.papers.gaunt_convolution [--docs]

Luo et al., arXiv:2401.10216: a feature is multiplied with a filter sum over l of w_l Y_l(r), w_l different for every
edge and channel as radial functions are. Turned to its direction r the filter has m = 0 alone, and the product costs
O(lmax^3). Beside it the same product on the grid, by Fourier series, and by Clebsch-Gordan couplings with Gaunt's
weights; they agree. Frames are made once for all layers and stand in a column of their own. 1000 edges of 64 channels
in float32, processor time of one thread, medians of rounds in which all take turns. --docs puts the table into
docs/tensor-products.md.
"""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from atomsml.nn.edge_frame import EdgeFrames
from atomsml.nn.tensor_products import (
    ClebschGordanProduct,
    FourierGauntProduct,
    GridGauntProduct,
    all_paths,
    gaunt_weights,
)
from atomsml.nn.tensor_products.gaunt_convolution import gaunt_convolution
from atomsml.o3 import spherical_harmonics
from benchmarks.shared.reporting import DOCS, processor, replace_section, table, three_digits
from benchmarks.speed.tensor_product_flops import count_flops
from benchmarks.speed.tensor_products import CHANNELS, PAIRS, in_turn, random_directions

LARGEST, FITTED = 8, range(3, 9)
NAMES = ("Clebsch-Gordan", "Gaunt, grid", "Gaunt, Fourier", "Gaunt, about the edge", "frames")


def calls_of(lmax: int) -> dict[str, Callable[[], Any]]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(PAIRS, (lmax + 1) ** 2, CHANNELS, generator=generator)
    weights, directions = torch.randn(PAIRS, lmax + 1, CHANNELS, generator=generator), random_directions()
    sizes = torch.tensor([2 * l + 1 for l in range(lmax + 1)])
    filters = spherical_harmonics(lmax, directions)[..., None] * weights.repeat_interleave(sizes, dim=1)
    even = all_paths(lmax, odd=False)
    coupled = ClebschGordanProduct(lmax, even, gaunt_weights(even).expand(-1, CHANNELS))
    frames = EdgeFrames.from_vectors(directions, lmax, lmax)
    calls: list[Callable[[], Any]] = [
        partial(coupled, x, filters),
        partial(GridGauntProduct(lmax), x, filters),
        partial(FourierGauntProduct(lmax), x, filters),
        partial(gaunt_convolution, x, weights, frames),
        partial(EdgeFrames.from_vectors, directions, lmax, lmax),
    ]
    expected = calls[0]()
    for call in calls[1:4]:
        torch.testing.assert_close(call(), expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())
    return dict(zip(NAMES, calls, strict=True))


def flops_of(lmax: int) -> dict[str, float]:
    """Per edge and channel."""
    x = torch.empty(PAIRS, (lmax + 1) ** 2, CHANNELS, device="meta")
    weights, even = torch.empty(PAIRS, lmax + 1, CHANNELS, device="meta"), all_paths(lmax, odd=False)
    coupled = ClebschGordanProduct(lmax, even, torch.empty(len(even), CHANNELS, device="meta"))
    on_cpu = EdgeFrames.from_vectors(random_directions(), lmax, lmax)
    frames = EdgeFrames(lmax, lmax, tuple(d.to("meta") for d in on_cpu.wigner))
    calls: list[Callable[[], Any]] = [
        lambda: coupled(x, x),
        lambda: GridGauntProduct(lmax)(x, x),
        lambda: FourierGauntProduct(lmax)(x, x),
        lambda: gaunt_convolution(x, weights, frames),
    ]
    return {name: count_flops(call) / (PAIRS * CHANNELS) for name, call in zip(NAMES, calls, strict=False)}


def exponents(measured: dict[int, dict[str, float]]) -> list[str]:
    """k of lmax^k, in each column."""
    logs = np.log([[measured[lmax][name] for name in measured[lmax]] for lmax in FITTED])
    return [f"{k:.1f}" for k in np.polyfit(np.log(FITTED), logs, 1)[0]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--docs", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    flops = {lmax: flops_of(lmax) for lmax in range(1, LARGEST + 1)}
    times = {lmax: in_turn(calls_of(lmax), arguments.rounds) for lmax in range(1, LARGEST + 1)}
    rows = [
        [
            str(lmax),
            *(three_digits(1000 * seconds) for seconds in row.values()),
            *(f"{row[name] / row[NAMES[3]]:.1f}" for name in NAMES[:2]),
        ]
        for lmax, row in times.items()
    ]
    counts = [[str(lmax), *(f"{flops[lmax][name]:,.0f}" for name in NAMES[:4])] for lmax in flops]
    machine = f"{processor()}, one thread; torch {torch.__version__}, float32; {PAIRS} edges, {CHANNELS} channels."
    fitted = f"Exponents k are those of lmax^k, fitted over lmax {FITTED[0]} to {FITTED[-1]}."
    in_ms = table(
        ["ms: lmax", *NAMES, "Clebsch-Gordan / about the edge", "grid / about the edge"],
        [*rows, ["**k**", *exponents(times), "", ""]],
    )
    in_flops = table(["FLOPs per edge and channel: lmax", *NAMES[:4]], [*counts, ["**k**", *exponents(flops)]])
    text = f"{machine} {fitted}\n\n{in_ms}\n{in_flops}"
    print(text)
    if arguments.docs:
        replace_section(DOCS / "tensor-products.md", "gaunt convolution", text)


if __name__ == "__main__":
    main()
