"""The products of MACE, by Clebsch-Gordan couplings, on the spherical grid and by Fourier series: time of training.

    OMP_NUM_THREADS=1 python -m benchmarks.speed.mace_products [--lmax 1 2 3 4] [--repeats 5] [--docs]

`step` is that of training_step.py: energy, forces, loss, double backward and an Adam update in float32, with 64x0e +
64x1o, two layers and three factors, on five shaken molecules of aspirin. `product` is the many-body product of one
layer alone: value, derivative by its input, and the derivative of that by input and weights, as training on forces
needs them. "in torch" is the Clebsch-Gordan product without its compiled kernels; the grid and the series are in torch
as well. The series is the form in which Luo et al. (arXiv:2401.10216) proposed the Gaunt product, which Xie et al.
(arXiv:2506.13523) moved to the grid; both give the same energies. The programs take turns; the tables have medians of
processor time in ms. --docs puts them into docs/speed.md.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from math import ceil, sqrt

import torch
from torch import Tensor, nn

from atomsml.nn.tensor_products import FourierGauntProduct
from atomsml.ops.contraction import contract_reference
from atomsml.potentials.mace.product import GauntProduct, SymmetricContraction
from benchmarks.shared.peers import sustained, take_turns
from benchmarks.shared.reporting import DOCS, processor, replace_section, table, three_digits
from benchmarks.speed.training_step import CHANNELS, Case, frames, mace_of, step_of

ASPIRIN, FACTORS, LMAX_OUT = "CC(=O)Oc1ccccc1C(=O)O", 3, 1
ELEMENTS, ATOMS = 3, 105  # of the five molecules
NAMES = ("Clebsch-Gordan", "Clebsch-Gordan, in torch", "Gaunt, grid", "Gaunt, Fourier")


class InTorch(SymmetricContraction):
    """Without compiled kernels."""

    def forward(self, message: Tensor, species: Tensor) -> Tensor:
        return contract_reference(message, self.coefficients(), species, self.table)


class FourierProduct(GauntProduct):
    """The same product on the torus of Fourier series: one transform of each factor, and one of what comes out."""

    def multiply(self, factors: list[Tensor]) -> Tensor:
        components = factors[0].shape[1]
        torus = Torus(ceil(len(factors) * self.lmax / 2))  # whose spectra reach twice that degree
        values = [torus.values(factor / sqrt(components)) for factor in factors]
        product = values[-1]
        for value in reversed(values[:-1]):
            product = value + value * product
        return torus.components(product) * sqrt(components)


class Torus(FourierGauntProduct):
    """Its two halves, for more than two factors."""

    def values(self, x: Tensor) -> Tensor:
        missing = (self.lmax + 1) ** 2 - x.shape[1]
        return self._on_torus(nn.functional.pad(x, (0, 0, 0, missing)))

    def components(self, values: Tensor) -> Tensor:
        return self._from_torus(values)


Product = SymmetricContraction | GauntProduct
CLASSES: tuple[type[Product], ...] = (SymmetricContraction, InTorch, GauntProduct, FourierProduct)


def train_through(product: Product, lmax: int) -> None:
    """What a step of training asks of a product."""
    generator = torch.Generator().manual_seed(0)
    message = torch.randn(ATOMS, (lmax + 1) ** 2, CHANNELS, generator=generator).requires_grad_()
    out = product(message, torch.arange(ATOMS) % ELEMENTS)
    (forces,) = torch.autograd.grad(out.sum(), message, create_graph=True)
    torch.autograd.grad(forces.square().sum(), [message, *product.parameters()])


def steps(lmax: int) -> list[Callable[[], None]]:
    """A step of training with each product in both layers."""
    case = Case(f"lmax {lmax}", ASPIRIN, lmax, [32, 32])
    molecules, runs = frames(case), []
    for kind in CLASSES:
        potential = mace_of(case, molecules, "gaunt" if issubclass(kind, GauntProduct) else "clebsch_gordan")
        for layer in potential.all_layers:
            layer.product.__class__ = kind  # the same weights
        runs.append(step_of(potential, molecules))
    return runs


def check(lmax: int) -> None:
    """Two ways to compute the same, twice."""
    for first, second in ((CLASSES[0], CLASSES[1]), (CLASSES[2], CLASSES[3])):
        torch.manual_seed(0)
        product = first(ELEMENTS, CHANNELS, lmax, FACTORS, LMAX_OUT)
        message, species = torch.randn(8, (lmax + 1) ** 2, CHANNELS), torch.arange(8) % ELEMENTS
        expected = product(message, species)
        product.__class__ = second
        torch.testing.assert_close(product(message, species), expected, rtol=1e-3, atol=1e-3)


def measure(lmax: int, repeats: int) -> tuple[list[str], list[str]]:
    """Rows of the two tables."""
    check(lmax)
    products = [kind(ELEMENTS, CHANNELS, lmax, FACTORS, LMAX_OUT) for kind in CLASSES]
    rows = []
    for runs in (steps(lmax), [partial(train_through, product, lmax) for product in products]):
        clocks = [partial(sustained, run, time.process_time) for run in runs]
        medians = [statistics.median(column) for column in take_turns(clocks, repeats, warm_up=1)]
        ratios = [f"{medians[-1] / medians[2]:.2f}", f"{medians[1] / medians[2]:.2f}"]
        rows.append([str(lmax), *(three_digits(1000 * x) for x in medians), *ratios])
    return rows[0], rows[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lmax", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--docs", action="store_true", help="put the table into docs/speed.md")
    arguments = parser.parse_args()
    rows = [measure(lmax, arguments.repeats) for lmax in arguments.lmax]
    ratios = ["Fourier / grid", "in torch / grid"]
    of_step, of_product = (
        table([what, *NAMES, *ratios], column)
        for what, column in zip(("step: lmax", "product: lmax"), zip(*rows, strict=True), strict=True)
    )
    threads = torch.get_num_threads()
    machine = f"{processor()}, threads: {threads}, torch {version('torch')}, float32, ms of the processor."
    text = f"{machine}\n\n{of_step}\n{of_product}"
    print(text)
    if arguments.docs:
        replace_section(DOCS / "speed.md", "mace products", text)


if __name__ == "__main__":
    main()
