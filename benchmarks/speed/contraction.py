"""Time of the symmetric contraction per atom: compiled kernels against the plain-torch reference.

    OMP_NUM_THREADS=1 python -m benchmarks.speed.contraction

One training step's worth of derivatives, as for a loss on forces: forward; backward for the gradient of the features
alone; then the double backward with gradients of features and coefficients. `floor` is the time in which one thread
copies the bytes that the three must read and write once (features, outputs, cotangents; coefficients and their
gradient once per species). Single precision, CPU time of one thread, median of several runs.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from atomsml.ops.contraction import ContractionTable, coefficients_from_weights, contract, contract_reference

ATOMS, SPECIES = 600, 8
Contraction = Callable[[Tensor, Tensor, Tensor, ContractionTable], Tensor]


def median_time(run: Callable[[], object], repeats: int) -> float:
    """Median CPU time of a call in seconds (other programs do not count), after one call that warms up."""
    run()
    times = []
    for _ in range(repeats):
        start = time.thread_time()
        run()
        times.append(time.thread_time() - start)
    return statistics.median(times)


def step_times(function: Contraction, table: ContractionTable, channels: int, repeats: int) -> list[float]:
    """Microseconds per atom of forward, backward and double backward."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(ATOMS, table.num_components, channels, generator=generator).requires_grad_()
    weights = [torch.randn(SPECIES, paths, channels, generator=generator) for _, _, paths in table.paths]
    coefficients = coefficients_from_weights(weights, table).requires_grad_()
    species = torch.randint(SPECIES, (ATOMS,), generator=generator)
    grad_output = torch.randn(ATOMS, table.num_outputs, channels, generator=generator).requires_grad_()

    def backward() -> Tensor:
        return torch.autograd.grad(out, features, grad_output, create_graph=True)[0]

    def double_backward() -> tuple[Tensor, ...]:
        return torch.autograd.grad(
            grad_features, [grad_output, features, coefficients], torch.ones_like(features), retain_graph=True
        )

    times = [median_time(lambda: function(features, coefficients, species, table), repeats)]
    out = function(features, coefficients, species, table)
    times.append(median_time(backward, repeats))
    grad_features = backward()
    times.append(median_time(double_backward, repeats))
    return [1e6 * seconds / ATOMS for seconds in times]


def floor_time(table: ContractionTable, channels: int) -> float:
    """Microseconds per atom to copy as many bytes as the three passes touch at least."""
    inputs, outputs, terms = table.num_components, table.num_outputs, len(table.index)
    rows = ATOMS * (3 * inputs + 3 * outputs + 3 * inputs) + SPECIES * terms * 4
    source = torch.zeros(rows * channels // 2)
    target = torch.empty_like(source)
    return 1e6 * median_time(lambda: target.copy_(source), 20) / ATOMS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"{platform.processor() or platform.machine()}, torch {torch.__version__}, float32, one thread, {ATOMS} atoms"
    )
    print("us/atom    forward  backward  double backward     sum | reference sum   ratio |  floor")
    for lmax, hidden_lmax in ((2, 0), (2, 1), (3, 0), (3, 1), (3, 2)):
        for channels in (32, 64, 128):
            table = ContractionTable(lmax, 3, hidden_lmax)
            fast = step_times(contract, table, channels, 9)
            slow = sum(step_times(contract_reference, table, channels, 1))
            print(
                f"l {lmax}->{hidden_lmax} C {channels:3d}"
                f"{fast[0]:8.1f}{fast[1]:10.1f}{fast[2]:17.1f}{sum(fast):8.1f} |"
                f"{slow:14.1f}{slow / sum(fast):8.1f} |{floor_time(table, channels):7.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
