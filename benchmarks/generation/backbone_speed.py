"""What generators of backbones cost: a step of training, 16 chains at once beside one after the other, and memory.

    python -m benchmarks.generation.backbone_speed [--docs]

Weights are random, which changes no time. Chains of 64 residues, float32, one thread, times of the processor; a step of
training is that of the recipe `backbones`: a loss (with self-conditioning every other time), its gradients, Muon. It
takes about a minute of an idle core.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch

from atomsml.cli.train.progress import keep_freed_memory
from atomsml.generative.proteins.backbones import BackboneRequest, Backbones
from atomsml.generative.proteins.flow import BackboneFlow
from atomsml.generative.proteins.model import BackboneConfig
from atomsml.training.optim.optimizers import OptimizerConfig, build_optimizer
from benchmarks.shared.peers import take_turns
from benchmarks.shared.reporting import processor, replace_section, spread, table

PAGE = Path(__file__).parents[2] / "docs" / "speed.md"
SAMPLES, RESIDUES, STEPS = 16, 64, 50
SIZES = ((4, 64), (8, 64), (16, 64), (32, 64), (16, 32), (4, 128), (1, 256))  # samples and residues


def model() -> BackboneFlow:
    torch.manual_seed(0)
    return BackboneFlow(BackboneConfig(longest=512))


def chains(samples: int, residues: int) -> Backbones:
    """Random frames, as far apart as those of proteins."""
    generator = torch.Generator().manual_seed(0)
    quaternions = torch.nn.functional.normalize(torch.randn(samples, residues, 4, generator=generator), dim=-1)
    positions = 2.2 * torch.randn(samples, residues, 3, generator=generator).cumsum(dim=1)
    mask = torch.ones(samples, residues, dtype=torch.bool)
    return Backbones(quaternions, positions - positions.mean(dim=1, keepdim=True), mask)


def training_step(samples: int, residues: int) -> Callable[[], float]:
    """Takes a step and returns its seconds."""
    flow, batch = model(), chains(samples, residues)
    optimizer = build_optimizer(flow.named_parameters(), OptimizerConfig())
    generator = torch.Generator().manual_seed(0)

    def take() -> float:
        began = time.process_time()
        optimizer.zero_grad()
        flow.loss(batch, generator).mean().backward()
        optimizer.step()
        return time.process_time() - began

    return take


def drawing(flow: BackboneFlow, samples: int) -> Callable[[], float]:
    """Draws some chains and returns the seconds."""

    def take() -> float:
        began = time.process_time()
        for _ in flow.sample([BackboneRequest(seed, RESIDUES) for seed in range(samples)], STEPS, "euler"):
            pass
        return time.process_time() - began

    return take


def memory(samples: int, residues: int) -> float:
    """MB that a step of training keeps for its gradients."""
    flow, batch, generator = model(), chains(samples, residues), torch.Generator().manual_seed(0)
    kept: dict[int, int] = {}

    def keep(x: torch.Tensor) -> torch.Tensor:
        storage = x.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        loss = flow.loss(batch, generator).mean()
    assert loss.requires_grad  # until here, everything kept has a place of its own
    return sum(kept.values()) / 1e6


def costs() -> str:
    """A table of a step of training and of drawing."""
    flow = model()
    names = ["a step of training, ms", f"{SAMPLES} chains in {STEPS} steps, s", f"one chain in {STEPS} steps, s"]
    turns = [training_step(SAMPLES, RESIDUES), drawing(flow, SAMPLES), drawing(flow, 1)]
    steps, batch, single = take_turns(turns, 3, warm_up=1)
    ratio = SAMPLES * statistics.median(single) / statistics.median(batch)
    rows = [[names[0], spread([1000 * t for t in steps])], [names[1], spread(batch)], [names[2], spread(single)]]
    rows.append([f"{SAMPLES} single chains, over {SAMPLES} at once", f"{ratio:.1f}"])
    return table(["what", "processor time"], rows)


def scaling() -> str:
    """A table of steps of training by the size of their batch."""
    rows = []
    for samples, residues in SIZES:
        step = training_step(samples, residues)
        step()
        seconds = [step() for _ in range(4)]
        megabytes = memory(samples, residues)
        pairs = samples * residues**2
        rows.append(
            [f"{samples} x {residues}", f"{pairs:,}", f"{1000 * statistics.median(seconds):.0f}", f"{megabytes:.0f}"]
        )
    return table(["chains x residues", "pairs", "a step of training, ms", "kept for gradients, MB"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", action="store_true", help="put the tables into docs/speed.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    facts = f"{processor()}, one thread, torch {version('torch')}, llvmlite {version('llvmlite')}, float32."
    text = f"{facts}\n\n{costs()}\n{scaling()}"
    print(text)
    if arguments.docs:
        replace_section(PAGE, "backbones", text)


if __name__ == "__main__":
    main()
