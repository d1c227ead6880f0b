"""EDM as published beside the program of its authors: processor time of a step of training and of a step of sampling.

    git clone https://github.com/ehoogeboom/e3_diffusion_for_molecules OFFICIAL
    python -m benchmarks.speed.edm OFFICIAL [--rounds 5] [--docs]

Both hold the network of QM9, 9 layers of 256 channels, in float32 on one thread, and take turns on the same molecules.
A step of training is the loss and its gradients, one of sampling an ancestral step with its noise; the optimiser is the
same for both and left out. Molecules have the sizes given, the last batch molecules of both kinds, the smaller ones
padded. The smaller networks of atomsml stand beside. --docs puts the table into docs/generators/edm.md.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from atomsml.generative.core.fields import prior
from atomsml.generative.core.noise import SampleNoise
from atomsml.generative.core.samplers.ddpm import DDPM
from atomsml.generative.molecules.edm.model import EDM, EDMConfig
from atomsml.generative.molecules.molecules import Molecules
from benchmarks.shared.reporting import DOCS, processor, replace_section, table, three_digits

ELEMENTS = (1, 6, 7, 8, 9)
BATCHES = {"16 of 18 atoms": (18,) * 16, "8 of 18 and 8 of 12": (18,) * 8 + (12,) * 8}
SIZES = ("paper", "medium", "small")
Step = Callable[[], object]


def molecules(sizes: tuple[int, ...]) -> Molecules:
    """Of random elements in random places: what they are costs nothing."""
    noise = SampleNoise(range(len(sizes)), sizes, max(sizes))
    numbers = torch.tensor(ELEMENTS)[(noise.uniform() * len(ELEMENTS)).long().clamp(max=len(ELEMENTS) - 1)]
    positions = 2 * noise.uniform(3) * noise.mask[..., None]
    return Molecules(numbers * noise.mask, positions)


def ours(size: str, batch: Molecules) -> tuple[Step, Step]:
    """A step of training, and one of sampling."""
    torch.manual_seed(0)
    model = EDM(EDMConfig(ELEMENTS, **EDM.sizes[size]))
    generator = torch.Generator().manual_seed(0)
    noise = SampleNoise(range(len(batch)), batch.sizes.tolist(), batch.numbers.shape[1])
    state, predict = prior(model.fields, noise), model.predictor(noise.mask, torch.zeros(len(batch), 0))
    t, s = (torch.full((len(batch),), time) for time in (0.5, 0.499))

    def train() -> None:
        model.zero_grad()
        model.loss(batch, generator).mean().backward()

    def sample() -> None:
        with torch.no_grad():
            DDPM().step(predict, model.fields, state, t, s, noise, 1000)

    return train, sample


def theirs(official: Path, batch: Molecules) -> tuple[Step, Step]:
    """The same of the authors' classes."""
    sys.path.insert(0, str(official))
    models = importlib.import_module("egnn.models")
    diffusion = importlib.import_module("equivariant_diffusion.en_diffusion")
    torch.manual_seed(0)
    options = {"n_dims": 3, "hidden_nf": 256, "n_layers": 9, "attention": True, "tanh": True, "norm_constant": 1}
    network = models.EGNN_dynamics_QM9(
        in_node_nf=len(ELEMENTS) + 2, context_node_nf=0, inv_sublayers=1, normalization_factor=1, **options
    )
    model = diffusion.EnVariationalDiffusion(
        network,
        in_node_nf=len(ELEMENTS) + 1,
        n_dims=3,
        timesteps=1000,
        noise_schedule="polynomial_2",
        noise_precision=1e-5,
        loss_type="l2",
        norm_values=(1, 4, 10),
        include_charges=True,
    )
    mask = batch.mask.float()[..., None]
    nodes = batch.numbers.shape[1]
    edge_mask = (mask * mask.transpose(1, 2) * (1 - torch.eye(nodes))).reshape(-1, 1)
    x = batch.positions - batch.positions.sum(dim=1, keepdim=True) / mask.sum(dim=1, keepdim=True) * mask
    onehot = (batch.numbers[..., None] == torch.tensor(ELEMENTS)).float()
    h = {"categorical": onehot, "integer": batch.numbers[..., None].float()}
    z = model.sample_combined_position_feature_noise(len(batch), nodes, mask)
    s, t = (torch.full((len(batch), 1), time) for time in (0.499, 0.5))

    def train() -> None:
        model.train()
        model.zero_grad()
        model(x, h, mask, edge_mask).mean().backward()

    def sample() -> None:
        model.eval()
        with torch.no_grad():
            model.sample_p_zs_given_zt(s, t, z, mask, edge_mask, None)

    return train, sample


def milliseconds(step: Step, molecules: int) -> float:
    start = time.process_time()
    step()
    return 1000 * (time.process_time() - start) / molecules


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("official", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--docs", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name, sizes in BATCHES.items():
        batch = molecules(sizes)
        programs = {"their program": theirs(arguments.official, batch)}
        programs |= {f"`{size}`": ours(size, batch) for size in SIZES}
        taken: dict[str, list[list[float]]] = {program: [[], []] for program in programs}
        for turn in range(arguments.rounds + 1):
            for program, steps in programs.items():
                for times, step in zip(taken[program], steps, strict=True):
                    needed = milliseconds(step, len(sizes))
                    if turn > 0:  # the first warms up
                        times.append(needed)
        reference = [statistics.median(times) for times in taken["their program"]]
        for program, (training, sampling) in taken.items():
            medians = statistics.median(training), statistics.median(sampling)
            ratios = [f"{known / found:.1f}" for known, found in zip(reference, medians, strict=True)]
            rows.append([name, program, *map(three_digits, medians), *ratios, three_digits(medians[1])])
    header = [
        "molecules",
        "network",
        "training, ms",
        "sampling, ms",
        "training, times as fast",
        "sampling",
        "1,000 steps, s",
    ]
    version = torch.__version__.partition("+")[0]
    said = f"{processor()}, one thread, torch {version}; milliseconds of the processor for a molecule and a step."
    text = f"{said}\n\n{table(header, rows)}"
    print(text)
    if arguments.docs:
        replace_section(DOCS / "generators" / "edm.md", "cost", text)


if __name__ == "__main__":
    main()
