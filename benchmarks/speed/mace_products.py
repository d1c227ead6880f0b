"""The two products of MACE, by Clebsch-Gordan couplings and on the spherical grid: time of training with each.

    OMP_NUM_THREADS=1 python -m benchmarks.speed.mace_products [--lmax 1 2 3 4] [--repeats 9] [--docs]

`step` is that of training_step.py: energy, forces, loss, double backward and an Adam update in float32, with 64x0e +
64x1o, two layers and three factors, on five shaken molecules of aspirin. `product` is the many-body product of one
layer alone: value, derivative by its input, and the derivative of that by input and weights, as training on forces
needs them. "plain" is the Clebsch-Gordan product without its compiled kernels, as whoever programs it in torch alone
would have it. The programs take turns; the table has medians of wall time in ms, and the extremes. --docs puts it into
docs/speed.md.
"""

import argparse
from collections.abc import Callable
from functools import partial
from importlib.metadata import version

import torch
from torch import Tensor

from atomsml.ops.contraction import contract_reference
from atomsml.potentials.mace.product import GauntProduct, SymmetricContraction
from benchmarks.shared.peers import seconds, take_turns
from benchmarks.shared.reporting import DOCS, processor, replace_section, spread, table
from benchmarks.speed.training_step import CHANNELS, Case, frames, of_atomsml

ASPIRIN, FACTORS, LMAX_OUT = "CC(=O)Oc1ccccc1C(=O)O", 3, 1
ELEMENTS, ATOMS = 3, 105  # of the five molecules
Product = Callable[[Tensor, Tensor], Tensor]


def train_through(product: Product, weights: list[torch.nn.Parameter], lmax: int) -> None:
    """What a step of training asks of a product."""
    generator = torch.Generator().manual_seed(0)
    message = torch.randn(ATOMS, (lmax + 1) ** 2, CHANNELS, generator=generator).requires_grad_()
    out = product(message, torch.arange(ATOMS) % ELEMENTS)
    (forces,) = torch.autograd.grad(out.sum(), message, create_graph=True)
    torch.autograd.grad(forces.square().sum(), [message, *weights])


def plain(product: SymmetricContraction, message: Tensor, species: Tensor) -> Tensor:
    return contract_reference(message, product.coefficients(), species, product.table)


def measure(lmax: int, repeats: int) -> list[str]:
    case = Case(f"lmax {lmax}", ASPIRIN, lmax, [32, 32])
    molecules = frames(case)
    torch.manual_seed(0)
    sizes = (ELEMENTS, CHANNELS, lmax, FACTORS, LMAX_OUT)
    coupled, gaunt = SymmetricContraction(*sizes), GauntProduct(*sizes)
    products: list[tuple[Product, list[torch.nn.Parameter]]] = [
        (coupled, list(coupled.parameters())),
        (partial(plain, coupled), list(coupled.parameters())),
        (gaunt, list(gaunt.parameters())),
    ]
    runs: list[Callable[[], None]] = [of_atomsml(case, molecules, name) for name in ("clebsch_gordan", "gaunt")]
    runs += [partial(train_through, product, weights, lmax) for product, weights in products]
    times = take_turns([partial(seconds, run) for run in runs], repeats, warm_up=2)
    return [str(lmax), *(spread([1000 * t for t in column]) for column in times)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lmax", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--docs", action="store_true", help="put the table into docs/speed.md")
    arguments = parser.parse_args()
    header = ["lmax", "step, Clebsch-Gordan", "step, Gaunt", "product, Clebsch-Gordan", "plain", "Gaunt"]
    rows = [measure(lmax, arguments.repeats) for lmax in arguments.lmax]
    machine = f"{processor()}, threads: {torch.get_num_threads()}, torch {version('torch')}, float32, ms."
    text = f"{machine}\n\n{table(header, rows)}"
    print(text)
    if arguments.docs:
        replace_section(DOCS / "speed.md", "mace products", text)


if __name__ == "__main__":
    main()
