"""The N-body experiment of EGNN (Satorras et al., arXiv:2102.09844): where five charged particles will be.

    python -m benchmarks.papers.nbody [--epochs 250] [--docs]

Trajectories are simulated here, by the rules of the authors' program: positions N(0, 1), speeds 0.5, charges +1 or -1,
a force q_i q_j r_ij / |r_ij|^3 on each, of which no component is larger than 100, and steps of 0.001. The
network sees positions and velocities at step 3,100 and predicts the positions at step 4,100. As in the paper there are
3,000 trajectories for training and 2,000 each for validation and test, the network has four layers of 64 channels, and
Adam learns from batches of 100. The test error is that of the epoch with the lowest validation error.

The authors train for 10,000 epochs at a rate of 5e-4. Here epochs are fewer, 250 in three minutes of one core, and the
rate falls from 1e-3 to zero. --docs puts the table into docs/faithful.md.
"""

from __future__ import annotations

import argparse
import copy
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from atomsml.nn.egnn_paper import PaperEGNNLayers
from atomsml.ops.convolution import Edges
from benchmarks.shared.reporting import DOCS, replace_section, table

PARTICLES, SPEED, TIMESTEP, LARGEST = 5, 0.5, 0.001, 100.0
SEEN, WANTED = 3100, 4100  # steps
SIZES = {"train": 3000, "valid": 2000, "test": 2000}
BATCH, RATE, DECAY, EVALUATE = 100, 1e-3, 1e-12, 5
CHANNELS, LAYERS = 64, 4
# mean squared errors of the paper, which were not checked here; "linear" is x + t v with one t for all
PUBLISHED = {
    "linear": 0.0819,
    "SE(3)-Transformer": 0.0244,
    "TFN": 0.0155,
    "GNN": 0.0107,
    "radial field": 0.0104,
    "EGNN": 0.0071,
}
RECEIVER, SENDER = (~torch.eye(PARTICLES, dtype=torch.bool)).nonzero().T


@dataclass(frozen=True)
class Trajectories:
    """(trajectories, particles, ...): positions and velocities at SEEN, positions at WANTED, products of charges."""

    positions: Tensor
    velocities: Tensor
    wanted: Tensor
    charges: Tensor  # (trajectories, edges): q_i q_j

    def take(self, which: Tensor) -> Trajectories:
        return Trajectories(*(values[which] for values in (self.positions, self.velocities, self.wanted, self.charges)))


def simulate(count: int, seed: int) -> Trajectories:
    """Leapfrog of `count` systems side by side; like charges repel."""
    rng = np.random.default_rng(seed)
    charges = rng.choice([-1.0, 1.0], size=(count, PARTICLES))
    x = rng.normal(size=(count, PARTICLES, 3))
    v = rng.normal(size=(count, PARTICLES, 3))
    v *= SPEED / np.linalg.norm(v, axis=2, keepdims=True)
    first, second = np.triu_indices(PARTICLES, k=1)
    strength = (charges[:, first] * charges[:, second])[:, :, None]
    onto = np.zeros((PARTICLES, len(first)))  # forces of pairs on particles
    onto[first, np.arange(len(first))], onto[second, np.arange(len(first))] = 1, -1
    kept = {}
    for step in range(WANTED + 1):
        kept |= {step: (x.copy(), v.copy())} if step in (SEEN, WANTED) else {}
        between = x[:, first] - x[:, second]
        of_pairs = strength * between / (between**2).sum(axis=2, keepdims=True) ** 1.5
        v += TIMESTEP * (onto @ of_pairs).clip(-LARGEST, LARGEST)
        x += TIMESTEP * v
    products = charges[:, RECEIVER] * charges[:, SENDER]
    return Trajectories(*(torch.tensor(a, dtype=torch.float32) for a in (*kept[SEEN], kept[WANTED][0], products)))


class Network(nn.Module):
    """The authors': speeds are features, products of charges and squared distances are attributes of edges."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(1, CHANNELS)
        self.layers = PaperEGNNLayers(CHANNELS, LAYERS, num_attributes=2, velocities=True)

    def forward(self, seen: Trajectories) -> Tensor:
        """Positions (trajectories, particles, 3) at WANTED."""
        count = len(seen.positions)
        start = PARTICLES * torch.arange(count)[:, None]
        index = torch.stack([(start + SENDER).flatten(), (start + RECEIVER).flatten()])
        x, v = seen.positions.flatten(0, 1), seen.velocities.flatten(0, 1)
        vectors = x[index[0]] - x[index[1]]
        attributes = torch.stack([seen.charges.flatten(), vectors.square().sum(dim=1)], dim=1)
        features = self.embedding(v.norm(dim=1, keepdim=True))
        edges = Edges.from_index(index, len(x))
        _, displacements = self.layers(features, vectors, attributes, edges, v)
        return (x + displacements).view(count, PARTICLES, 3)


def error(network: Network, data: Trajectories) -> float:
    """Mean squared error of a coordinate."""
    with torch.no_grad():
        return float((network(data) - data.wanted).square().mean())


def train(data: dict[str, Trajectories], epochs: int) -> tuple[Network, int, float]:
    """The network of the epoch with the lowest validation error, that epoch, and the CPU minutes of the training."""
    torch.manual_seed(0)
    network = Network()
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    best, lowest, best_epoch, began = copy.deepcopy(network), np.inf, 0, time.process_time()
    for epoch in range(1, epochs + 1):
        for which in torch.randperm(SIZES["train"]).split(BATCH):
            batch = data["train"].take(which)
            optimizer.zero_grad()
            (network(batch) - batch.wanted).square().mean().backward()
            optimizer.step()
        schedule.step()
        if epoch % EVALUATE == 0 and (found := error(network, data["valid"])) < lowest:
            best, lowest, best_epoch = copy.deepcopy(network), found, epoch
        if epoch % 50 == 0:
            minutes, of_best = (time.process_time() - began) / 60, error(best, data["test"])
            print(f"epoch {epoch}  lowest validation error {lowest:.5f} in epoch {best_epoch}, ", end="")
            print(f"test error then {of_best:.5f}  {minutes:.1f} CPU minutes", flush=True)
    return best, best_epoch, (time.process_time() - began) / 60


def linear_error(data: dict[str, Trajectories]) -> float:
    """Test error of x + t v, with the t that is best in training."""
    seen, test = data["train"], data["test"]
    moved = seen.wanted - seen.positions
    t = float((moved * seen.velocities).sum() / seen.velocities.square().sum())
    return float((test.positions + t * test.velocities - test.wanted).square().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=250)
    parser.add_argument("--docs", action="store_true", help="write the table into docs/faithful.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = {name: simulate(count, seed) for seed, (name, count) in enumerate(SIZES.items())}
    found = {"linear": linear_error(data)}
    print(f"linear {found['linear']:.4f}", flush=True)
    network, epoch, minutes = train(data, arguments.epochs)
    found["EGNN"] = error(network, data["test"])
    rows = [[name, f"{value:.4f}", f"{found[name]:.4f}" if name in found else "-"] for name, value in PUBLISHED.items()]
    text = table(["", "published, 10,000 epochs", f"here, {arguments.epochs} epochs"], rows)
    text += (
        f"\nMean squared errors of a coordinate. {minutes:.0f} CPU minutes, lowest validation error in epoch {epoch}.\n"
    )
    print(text)
    if arguments.docs:
        replace_section(DOCS / "faithful.md", "nbody", text)


if __name__ == "__main__":
    main()
