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
import math
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


def exponent(times: dict[int, float]) -> float:
    """k of lmax^k."""
    logs = [(math.log(lmax), math.log(times[lmax])) for lmax in FITTED]
    return float(np.polyfit(*zip(*logs, strict=True), 1)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--docs", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    measured = {lmax: in_turn(calls_of(lmax), arguments.rounds) for lmax in range(1, LARGEST + 1)}
    rows = [
        [
            str(lmax),
            *(three_digits(1000 * times[name]) for name in NAMES),
            *(f"{times[name] / times[NAMES[3]]:.1f}" for name in NAMES[:2]),
        ]
        for lmax, times in measured.items()
    ]
    slopes = [f"{exponent({lmax: times[name] for lmax, times in measured.items()}):.1f}" for name in NAMES]
    header = ["lmax", *NAMES, "Clebsch-Gordan / about the edge", "grid / about the edge"]
    machine = f"{processor()}, one thread; torch {torch.__version__}, float32; {PAIRS} edges, {CHANNELS} channels."
    fitted = f"Milliseconds. Exponents k are those of lmax^k, fitted over lmax {FITTED[0]} to {FITTED[-1]}."
    text = f"{machine} {fitted}\n\n{table(header, [*rows, ['**k**', *slopes, '', '']])}"
    print(text)
    if arguments.docs:
        replace_section(DOCS / "tensor-products.md", "gaunt convolution", text)


if __name__ == "__main__":
    main()
