"""Time of a training step of the generator of molecules: with the kernels of atomsml, and in plain torch.

    python -m benchmarks.generation.training_step DATA/molecules_static/qm9_xtb.h5 [--docs]

A step is that of the recipe `qm9-flow`: 128 molecules, float32, one thread; optimal transport, both networks, their
gradients, Muon and the average of the weights. Both ways take turns with the same batches; times are those of the
processor.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from atomsml.cli.train.progress import keep_freed_memory
from atomsml.generative.core.training.config import GeneratorConfig, generator_config
from atomsml.generative.core.training.loader import SampleLoader
from atomsml.generative.core.training.run import new_generator
from atomsml.generative.molecules.flow.model import MoleculeFlow
from atomsml.ops.activation import operation as activation
from atomsml.ops.matmul import operation as matmul
from atomsml.ops.pair_messages import operation as pair_messages
from atomsml.training.loop import TrainingState, fit
from atomsml.yaml_file import read_mapping
from benchmarks.shared.peers import take_turns
from benchmarks.shared.reporting import processor, replace_section, spread, table

RECIPE = Path(__file__).parents[1] / "recipes" / "qm9-flow.yaml"
PAGE = Path(__file__).parents[2] / "docs" / "speed.md"
PARTS = ("optimal transport, networks", "their gradients", "optimiser, average")


@contextmanager
def plain_torch() -> Iterator[None]:
    """Inside, operations take their references."""
    with ExitStack() as stack:
        for operation in (activation, matmul, pair_messages):
            stack.enter_context(patch.object(operation, "_kernels", lambda device: None))
        yield


class Steps:
    """A run of its own, step by step."""

    def __init__(self, config: GeneratorConfig, samples: Any) -> None:
        state = TrainingState.start(new_generator(config, MoleculeFlow, samples), config)
        self.times = dict.fromkeys(PARTS, 0.0)
        self.steps = fit(state, SampleLoader(samples, config.batch, config.seed), config, self._objective)

    def _objective(self, state: TrainingState[Any], batch: Any, done: float) -> float:
        began = time.process_time()
        loss = state.model.loss(batch, torch.Generator().manual_seed(state.step)).mean()
        middle = time.process_time()
        loss.backward()
        self.times |= {PARTS[0]: middle - began, PARTS[1]: time.process_time() - middle}
        return float(loss.item())

    def take(self) -> dict[str, float]:
        """Seconds of each part of one step."""
        began = time.process_time()
        next(self.steps)
        whole = time.process_time() - began
        return {**self.times, PARTS[2]: whole - sum(self.times[part] for part in PARTS[:2]), "step": whole}


def measure(data: str, repeats: int) -> tuple[list[dict[str, float]], ...]:
    """Seconds of the parts of steps, with kernels and in plain torch."""
    recipe = read_mapping(RECIPE)
    samples = MoleculeFlow.read([data])
    config = generator_config({**recipe, "conditions": [], "max_minutes": None, "max_steps": 10**6})
    found: tuple[list[dict[str, float]], ...] = ([], [])

    def taker(steps: Steps, times: list[dict[str, float]], plainly: bool) -> Callable[[], float]:
        def take() -> float:
            with plain_torch() if plainly else ExitStack():
                times.append(steps.take())
            return times[-1]["step"]

        return take

    turns = [taker(Steps(config, samples), times, plainly) for times, plainly in zip(found, (False, True), strict=True)]
    take_turns(turns, repeats, warm_up=2)
    return tuple(times[2:] for times in found)


def report(found: tuple[list[dict[str, float]], ...]) -> str:
    rows = []
    for part in (*PARTS, "step"):
        ours, plain = ([1000 * each[part] for each in times] for times in found)
        ratio = statistics.median(plain) / statistics.median(ours)
        rows.append([part, spread(ours), spread(plain), f"{ratio:.1f}"])
    header = ["part", "atomsml, ms", "plain torch, ms", "ratio"]
    facts = f"{processor()}, one thread, torch {version('torch')}, llvmlite {version('llvmlite')}, float32."
    return f"{facts}\n\n{table(header, rows)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--repeats", type=int, default=12)
    parser.add_argument("--docs", action="store_true", help="put the table into docs/speed.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    text = report(measure(arguments.data, arguments.repeats))
    print(text)
    if arguments.docs:
        replace_section(PAGE, "generator training", text)


if __name__ == "__main__":
    main()
