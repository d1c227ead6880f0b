"""Writes tests/data/edm/golden.npz: predictions and losses of the program of EDM's authors, and its weights.

    git clone https://github.com/ehoogeboom/e3_diffusion_for_molecules OFFICIAL
    python tests/generative/molecules/edm/make_edm_golden.py OFFICIAL tests/data/edm/golden.npz

Everything in float64. Their table of the noise schedule, which they round to float32, is computed anew; the times are
such that float32, in which they compute t, holds them exactly, and none is T, where they limit the schedule.
`plain` has atomic numbers among its features, as their model of QM9; `conditional` has none, but a property, and two
rounds of messages in each block.
"""

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from ase.build import molecule
from torch import Tensor, nn

NAMES, ELEMENTS, T = ("CH4", "H2O", "NH3"), (1, 6, 7, 8), 1000
STEPS, TRAINING_STEPS = (125, 500, 875), (0, 250, 625)
CHANNELS, LAYERS = 16, 2
MODELS: dict[str, dict[str, Any]] = {
    "plain": {"charges": True, "context": 0, "sublayers": 1, "norm_values": (1, 4, 10)},
    "conditional": {"charges": False, "context": 1, "sublayers": 2, "norm_values": (1, 8, 1)},
}


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def batch() -> tuple[Tensor, Tensor, Tensor]:
    """Atomic numbers, centred positions, mask (samples, nodes, 1); padded."""
    images = [molecule(name) for name in NAMES]
    nodes = max(map(len, images))
    numbers, positions = torch.zeros(len(images), nodes), torch.zeros(len(images), nodes, 3, dtype=torch.float64)
    for i, atoms in enumerate(images):
        numbers[i, : len(atoms)] = torch.tensor(atoms.numbers)
        positions[i, : len(atoms)] = torch.tensor(atoms.positions - atoms.positions.mean(axis=0))
    return numbers.double(), positions, (numbers > 0).double()[:, :, None]


def network_of(models: ModuleType, diffusion: ModuleType, options: dict[str, Any]) -> nn.Module:
    features = len(ELEMENTS) + options["charges"]
    dynamics = models.EGNN_dynamics_QM9(
        in_node_nf=features + 1,
        context_node_nf=options["context"],
        n_dims=3,
        hidden_nf=CHANNELS,
        n_layers=LAYERS,
        attention=True,
        tanh=True,
        norm_constant=1,
        inv_sublayers=options["sublayers"],
        normalization_factor=1,
    )
    model = diffusion.EnVariationalDiffusion(
        dynamics,
        in_node_nf=features,
        n_dims=3,
        timesteps=T,
        noise_schedule="polynomial_2",
        noise_precision=1e-5,
        loss_type="l2",
        norm_values=options["norm_values"],
        include_charges=options["charges"],
    ).double()
    alphas2 = diffusion.polynomial_schedule(T, s=1e-5, power=2.0)
    model.gamma.gamma.data = torch.from_numpy(np.log(1 - alphas2) - np.log(alphas2))
    for name, weight in model.dynamics.named_parameters():
        nn.init.normal_(weight, std=0.05 if "coord_mlp.4" in name else 0.25)
    return model


def golden_of(models: ModuleType, diffusion: ModuleType, options: dict[str, Any]) -> dict[str, Tensor]:
    torch.manual_seed(0)
    model = network_of(models, diffusion, options)
    numbers, x, mask = batch()
    samples, nodes = numbers.shape
    apart = 1 - torch.eye(nodes, dtype=torch.float64)
    edge_mask = (mask * mask.transpose(1, 2) * apart).reshape(-1, 1)
    onehot = (numbers[:, :, None] == torch.tensor(ELEMENTS)).double()
    integers = numbers[:, :, None] / options["norm_values"][2] if options["charges"] else torch.zeros(0).double()
    h = {"categorical": onehot / options["norm_values"][1], "integer": integers}
    context = normal(samples, 1, 1, seed=3).expand(-1, nodes, 1) * mask if options["context"] else None
    width = len(ELEMENTS) + options["charges"]
    noises = []
    for seed in (1, 2):
        eps_x = normal(samples, nodes, 3, seed=seed) * mask
        eps_x = eps_x - eps_x.sum(dim=1, keepdim=True) / mask.sum(dim=1, keepdim=True) * mask
        noises.append(torch.cat([eps_x, normal(samples, nodes, width, seed=10 + seed) * mask], dim=2))
    found: dict[str, Tensor] = {"noise": noises[0], "noise_at_zero": noises[1]}
    if context is not None:
        found["context"] = context[:, 0, 0]

    def loss(steps: tuple[int, ...]) -> Tensor:
        drawn = torch.tensor(steps)[:, None]
        with (
            patch.object(torch, "randint", lambda *_, **__: drawn),
            patch.object(model, "sample_combined_position_feature_noise", side_effect=noises),
        ):
            return model.compute_loss(x, h, mask, edge_mask, context, t0_always=not model.training)[0]

    with torch.no_grad():
        t = torch.tensor(STEPS)[:, None] / T
        found["prediction"] = model.phi(noises[0], t, mask, edge_mask, context)
        found["training_loss"] = loss(TRAINING_STEPS)
        model.eval()
        found["bound"] = loss(STEPS)
    return found | {f"weight/{name}": value for name, value in model.state_dict().items()}


def main(official: str, path: str) -> None:
    sys.path.insert(0, official)
    models = importlib.import_module("egnn.models")
    diffusion = importlib.import_module("equivariant_diffusion.en_diffusion")
    arrays = {
        f"{kind}/{name}": value.numpy()
        for kind, options in MODELS.items()
        for name, value in golden_of(models, diffusion, options).items()
    }
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
