"""Pieces of Tetris in space, told apart by networks that differ in their tensor product alone.

    python -m benchmarks.papers.tetris [--seeds 2] [--docs]

After Xie et al., "The Price of Freedom", arXiv:2506.13523, with the settings of their code: eight pieces of four
blocks, two of them mirror images; neighbours at distance 1, harmonics up to degree 2, three layers, features of either
parity of degrees up to lmax, 400 steps of Adam at 1e-3 (they make 1000 and draw 400), each on all pieces, turned at
random. The last layer gives a pseudoscalar and seven scalars. The pseudoscalar with either sign, times the first
scalar, makes the logits of the mirror images, and the other six scalars are those of the other pieces: only a
pseudoscalar tells the mirror images apart. Features start as scalars; products of even l1 + l2 + l3 alone, as Gaunt's
are on a grid or by Fourier series, make no pseudoscalar of them.

Features of natural parity, (-1)^l, and of the other stand beside each other. Harmonics have natural parity; a path of
odd l1 + l2 + l3 leads from one kind to the other, a path of even sum stays. Accuracy is that on 50 rotated copies of
every piece; two equal logits count as wrong. --docs puts the table into docs/tensor-products.md.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import torch
from scipy.spatial.transform import Rotation
from torch import Tensor, nn

from atomsml.nn.linear import IrrepLinear, irrep_blocks
from atomsml.nn.tensor_products import (
    ClebschGordanProduct,
    GridGauntProduct,
    SO2Product,
    TensorProduct,
    all_paths,
)
from atomsml.o3 import spherical_harmonics
from benchmarks.shared.reporting import DOCS, replace_section, table

PIECES = {
    "chiral": [[0, 0, 0], [0, 0, 1], [1, 0, 0], [1, 1, 0]],
    "its mirror image": [[1, 1, 1], [1, 1, 2], [2, 1, 1], [2, 0, 1]],
    "square": [[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]],
    "line": [[0, 0, 0], [0, 0, 1], [0, 0, 2], [0, 0, 3]],
    "corner": [[0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0]],
    "L": [[0, 0, 0], [0, 0, 1], [0, 0, 2], [0, 1, 0]],
    "T": [[0, 0, 0], [0, 0, 1], [0, 0, 2], [0, 1, 1]],
    "zigzag": [[0, 0, 0], [1, 0, 0], [1, 1, 0], [2, 1, 0]],
}
POSITIONS, LABELS = torch.tensor(list(PIECES.values())).float(), torch.arange(len(PIECES))
CHANNELS, LAYERS, HARMONICS, STEPS, RATE, COPIES = 16, 3, 2, 400, 1e-3, 50
LARGEST, PARTS = 2, (slice(8), slice(2), slice(2, 8))  # of the pieces: all, the mirror images, the others


class Weighted(nn.Module):
    """Products whose paths have weights, of even or of odd sums."""

    def __init__(self, kind: type[TensorProduct], lmax: int, odd: bool) -> None:
        super().__init__()
        self.kind, self.lmax, self.paths = kind, lmax, all_paths(lmax)
        self.mine = torch.tensor([[sum(path) % 2 == odd] for path in self.paths])
        self.weights = nn.Parameter(torch.randn(len(self.paths), CHANNELS))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.kind(self.lmax, self.paths, self.weights * self.mine)(x, y)


def weighted(kind: type[TensorProduct]) -> Callable[[int], list[nn.Module | None]]:
    return lambda lmax: [Weighted(kind, lmax, odd=False), Weighted(kind, lmax, odd=True)]


class OnSphere(nn.Module):
    """Products that have no weights but scales of the degrees, of x and y."""

    def __init__(self, product: TensorProduct) -> None:
        super().__init__()
        self.product = product
        self.scales = nn.Parameter(torch.randn(2, product.lmax + 1, CHANNELS))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        sizes = torch.tensor([2 * l + 1 for l in range(self.product.lmax + 1)])
        first, second = self.scales.repeat_interleave(sizes, dim=1)
        return self.product(x * first, y * second)


# what makes features of the same kind of parity, and of the other
PRODUCTS: dict[str, Callable[[int], list[nn.Module | None]]] = {
    "Clebsch-Gordan": weighted(ClebschGordanProduct),
    "SO(2)": weighted(SO2Product),
    "Gaunt, grid": lambda lmax: [OnSphere(GridGauntProduct(lmax)), None],
}


class Layer(nn.Module):
    """Mean of the neighbours' products with the harmonics, a gate, and a linear map of the result and the features."""

    def __init__(self, product: str, lmax: int) -> None:
        super().__init__()
        self.lmax, self.components = lmax, (lmax + 1) ** 2
        self.products = nn.ModuleList(each for each in PRODUCTS[product](lmax) if each is not None)
        self.mix = nn.ModuleList(IrrepLinear([CHANNELS] * (lmax + 1), CHANNELS) for _ in range(2))
        self.gates = nn.Linear(CHANNELS, 2 * (lmax + 1) * CHANNELS)
        self.out = nn.ModuleList(IrrepLinear([2 * CHANNELS] * (lmax + 1), CHANNELS) for _ in range(2))

    def forward(self, features: list[Tensor], y: Tensor, edges: Tensor) -> list[Tensor]:
        """[natural, other], each (atoms, components, channels); y (edges, components, 1)."""
        sender, receiver = edges
        degree = torch.bincount(receiver, minlength=len(features[0]))[:, None, None]
        messages = [torch.zeros_like(x) for x in features]
        for product, swapped in zip(self.products, (0, 1), strict=False):
            for kind, x in enumerate(features):
                place = kind if swapped == 0 else 1 - kind
                messages[place] = messages[place].index_add(0, receiver, product(x[sender], y))
        mixed = [
            linear(irrep_blocks(message / degree, self.lmax))
            for linear, message in zip(self.mix, messages, strict=True)
        ]
        gates = torch.nn.functional.silu(self.gates(mixed[0][:, 0])).unflatten(1, (2, self.lmax + 1, CHANNELS))
        sizes = torch.tensor([2 * l + 1 for l in range(self.lmax + 1)])
        gated = [x * gates[:, kind].repeat_interleave(sizes, dim=1) for kind, x in enumerate(mixed)]
        return [
            linear(irrep_blocks(torch.cat([new, old], dim=2), self.lmax))
            for linear, new, old in zip(self.out, gated, features, strict=True)
        ]


class Network(nn.Module):
    def __init__(self, product: str, lmax: int) -> None:
        super().__init__()
        self.lmax = max(lmax, HARMONICS)
        self.kept = (lmax + 1) ** 2
        self.start = nn.Parameter(torch.randn(CHANNELS))
        self.layers = nn.ModuleList(Layer(product, self.lmax) for _ in range(LAYERS))
        self.scalars, self.pseudoscalar = nn.Linear(CHANNELS, 7, bias=False), nn.Linear(CHANNELS, 1, bias=False)

    def forward(self, positions: Tensor) -> Tensor:
        """(pieces, blocks, 3) -> (pieces, 8) logits."""
        pieces, blocks, _ = positions.shape
        where = torch.cdist(positions, positions)
        piece, receiver, sender = torch.nonzero((where < 1.1) & (where > 0.1)).T
        vectors = positions[piece, sender] - positions[piece, receiver]
        y = spherical_harmonics(self.lmax, vectors)
        y[:, (HARMONICS + 1) ** 2 :] = 0
        edges = torch.stack([sender, receiver]) + blocks * piece
        natural = torch.zeros(pieces * blocks, (self.lmax + 1) ** 2, CHANNELS)
        natural[:, 0] = self.start
        features = [natural, torch.zeros_like(natural)]
        for layer in self.layers:
            features = layer(features, y[..., None], edges)
            for x in features:
                x[:, self.kept :] = 0
        scalars, pseudoscalars = (x[:, 0].unflatten(0, (pieces, blocks)).sum(1) for x in features)
        even, odd = self.scalars(scalars), self.pseudoscalar(pseudoscalars)
        return torch.cat([odd * even[:, :1], -odd * even[:, :1], even[:, 1:]], dim=1)


def rotated(generator: torch.Generator) -> Tensor:
    """Every piece, all turned alike."""
    seed = int(torch.randint(2**31, (1,), generator=generator))
    matrix = torch.from_numpy(Rotation.random(rng=seed).as_matrix()).float()
    return POSITIONS @ matrix.T


def train(product: str, lmax: int, seed: int) -> Tensor:
    """(8,) accuracy of each piece after training."""
    torch.manual_seed(seed)
    network, generator = Network(product, lmax), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    for _ in range(STEPS):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(rotated(generator)), LABELS).backward()
        optimizer.step()
    with torch.no_grad():
        logits = torch.stack([network(rotated(generator)) for _ in range(COPIES)])
    # where two logits are the same to rounding nothing has been told apart
    best, second = logits.topk(2, dim=2).values.unbind(2)
    return ((logits.argmax(dim=2) == LABELS) & (best - second > 1e-3)).float().mean(dim=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--docs", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for product in PRODUCTS:
        for lmax in range(1, LARGEST + 1):
            found = [train(product, lmax, seed) for seed in range(arguments.seeds)]
            chiral, others = (
                statistics.median(x[part].mean().item() for x in found) for part in (slice(2), slice(2, 8))
            )
            whole = statistics.median(x.mean().item() for x in found)
            rows.append([product, str(lmax), *(f"{100 * x:.1f}" for x in (whole, chiral, others))])
            print(rows[-1], flush=True)
    header = ["product", "lmax", "accuracy, %", "mirror images, %", "other six, %"]
    text = table(header, rows)
    if arguments.docs:
        replace_section(DOCS / "tensor-products.md", "tetris", text)


if __name__ == "__main__":
    main()
