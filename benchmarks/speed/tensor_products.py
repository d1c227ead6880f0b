"""Cost and power of equivariant tensor products for lmax 1 to 8, after the comparison of The Price of Freedom.

    taskset -c 1 python -m benchmarks.speed.tensor_products --docs

Y. Xie, A. Daigavane, M. Kotak, T. Smidt, ICML 2025, arXiv:2506.13523: products that cost less also do less, so that
run time and floating-point operations (FLOPs) stand beside what a product can do.

Time is CPU time of one thread, median of several rounds in which the algorithms take turns; single precision.
`tensor_product_flops.py` tells how FLOPs are counted. Every product is first compared with another way to compute it.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from atomsml.nn.edge_frame import EdgeFrames
from atomsml.nn.tensor_products import (
    ClebschGordanProduct,
    FourierGauntProduct,
    GridGauntProduct,
    SO2Product,
    TensorProduct,
    all_paths,
)
from atomsml.o3 import spherical_harmonics
from atomsml.o3.s2_grid import all_components
from atomsml.ops.convolution import Edges, convolution_table, convolve
from atomsml.ops.grid_product.cpu import product_of_two
from benchmarks.shared.reporting import DOCS, replace_section
from benchmarks.speed.tensor_product_flops import count_flops
from benchmarks.speed.tensor_product_tables import (
    COMPILED,
    FOURIER,
    FRAMES,
    FULL,
    FULL_Y,
    GRID,
    KERNEL,
    SO2,
    Measured,
    draw,
    report,
)

PAIRS, CHANNELS, NEIGHBORS = 1000, 64, 25
LARGEST, LARGEST_COMPILED = 8, 6  # compiling kernels for larger degrees takes minutes
Call = Callable[[], Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--docs", action="store_true", help="write the page and the picture of the documentation")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    measured = Measured(PAIRS, CHANNELS, NEIGHBORS, {}, {})
    for lmax in range(1, LARGEST + 1):
        calls = products_of_features(lmax) | products_with_harmonics(lmax)
        for name, seconds in in_turn(calls, arguments.rounds).items():
            measured.seconds.setdefault(name, {})[lmax] = seconds
        for name, flops in flops_of_products(lmax).items():
            measured.flops.setdefault(name, {})[lmax] = flops
        times = ", ".join(
            f"{name} {1e3 * times[lmax]:.1f}" for name, times in measured.seconds.items() if lmax in times
        )
        print(f"lmax {lmax}, ms: {times}", flush=True)
    text = report(measured)
    print(text)
    if arguments.docs:
        draw(measured, DOCS / "images" / "tensor-products.png")
        replace_section(DOCS / "tensor-products.md", "tensor products", text)


def products_of_features(lmax: int) -> dict[str, Call]:
    """Each pair is two features of all channels."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, PAIRS, (lmax + 1) ** 2, CHANNELS, generator=generator)
    calls: dict[str, Call] = {
        FULL: partial(full_product(lmax), x, y),
        GRID: partial(GridGauntProduct(lmax), x, y),
        FOURIER: partial(FourierGauntProduct(lmax), x, y),
    }
    torch.testing.assert_close(calls[GRID](), calls[FOURIER](), rtol=1e-3, atol=1e-3)
    if lmax <= LARGEST_COMPILED:
        calls[COMPILED] = partial(product_of_two, x, y, all_components(lmax))
        torch.testing.assert_close(calls[COMPILED](), calls[GRID](), rtol=1e-3, atol=1e-3)
    return calls


def products_with_harmonics(lmax: int) -> dict[str, Call]:
    """Each pair is a feature and the harmonics of a direction."""
    generator = torch.Generator().manual_seed(0)
    x, directions = torch.randn(PAIRS, (lmax + 1) ** 2, CHANNELS, generator=generator), random_directions()
    y, full = spherical_harmonics(lmax, directions)[..., None], full_product(lmax)
    so2, frames = SO2Product(lmax, full.paths, full.weights), EdgeFrames.from_vectors(directions, lmax, lmax)
    torch.testing.assert_close(so2.in_frames(x, frames), full(x, y), rtol=1e-3, atol=1e-3)
    calls: dict[str, Call] = {
        FULL_Y: lambda: full(x, y),
        SO2: lambda: so2.in_frames(x, frames),
        FRAMES: lambda: EdgeFrames.from_vectors(directions, lmax, lmax),
    }
    if lmax <= LARGEST_COMPILED:
        calls[KERNEL] = compiled_convolution(x, y[..., 0], full)
    return calls


def compiled_convolution(x: Tensor, y: Tensor, product: TensorProduct) -> Call:
    """The same products summed over the neighbours of an atom, path by path, then over paths with weights.

    The kernel couples the sum over neighbours, not each neighbour.
    """
    paths, atoms = convolution_table(product.lmax, product.lmax, product.lmax, odd=True), PAIRS // NEIGHBORS
    receiver = torch.arange(atoms).repeat_interleave(NEIGHBORS)
    sender = torch.arange(PAIRS) % atoms
    edges = Edges.from_index(torch.stack([sender, receiver]), atoms, torch.zeros(PAIRS, dtype=torch.long))
    x, weights = x[:atoms], product.weights.to(x)[None]

    def run() -> Tensor:
        summed = [out.unflatten(2, (-1, CHANNELS)).sum(2) for out in convolve(x, y, weights, edges, paths)]
        return torch.cat(summed, dim=1)

    expected = torch.zeros_like(x).index_add(0, receiver, product(x[sender], y[..., None]))
    torch.testing.assert_close(run(), expected, rtol=1e-3, atol=1e-3)
    return run


def full_product(lmax: int) -> ClebschGordanProduct:
    """Every path, each with a weight for each channel."""
    paths = all_paths(lmax)
    weights = torch.randn(len(paths), CHANNELS, generator=torch.Generator().manual_seed(1))
    return ClebschGordanProduct(lmax, paths, weights)


def random_directions() -> Tensor:
    return torch.randn(PAIRS, 3, generator=torch.Generator().manual_seed(2))


def in_turn(calls: dict[str, Call], rounds: int) -> dict[str, float]:
    """Median CPU time of each call in seconds, after one that warms up."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.thread_time()
            call()
            times[name].append(time.thread_time() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def flops_of_products(lmax: int) -> dict[str, float]:
    """FLOPs per pair and channel. The weights of the SO(2) product are coupled once for all pairs."""
    shape = (PAIRS, (lmax + 1) ** 2, CHANNELS)
    x, y = torch.empty(shape, device="meta"), torch.empty(*shape[:2], 1, device="meta")
    on_cpu = EdgeFrames.from_vectors(random_directions(), lmax, lmax)
    frames = EdgeFrames(lmax, lmax, tuple(d.to("meta") for d in on_cpu.wigner))
    full = full_product(lmax)
    full.weights = full.weights.to("meta")
    so2 = SO2Product(lmax, full.paths, full.weights)
    calls: dict[str, Call] = {
        FULL: lambda: full(x, x),
        GRID: lambda: GridGauntProduct(lmax)(x, x),
        FOURIER: lambda: FourierGauntProduct(lmax)(x, x),
        FULL_Y: lambda: full(x, y),
        SO2: lambda: so2.in_frames(x, frames),
    }
    return {name: count_flops(call) / (PAIRS * CHANNELS) for name, call in calls.items()}


if __name__ == "__main__":
    main()
