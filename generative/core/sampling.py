"""Drawing many samples: a seed for each, batches, and a state after every step.

Sample `i` of a run with seed `s` depends on (s, i) alone, not on how many there are nor on their batches: the first
ten of a thousand are the ten that a shorter run draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from torch import nn

from atomsml.generative.core.generator import Generator

Request = TypeVar("Request")
Batch = TypeVar("Batch")

PADDING = 0.1  # of the pairs that a batch may have: a batch of its own costs about as much as so many more


@dataclass(frozen=True)
class Progress:
    """Where the drawing of samples stands after a step."""

    finished: int  # samples
    evaluations: dict[str, int]  # of each network in this batch so far: as many for each of its samples
    drawn: dict[int, Any]  # by the place of their request: those that this step finished, as `unpack` makes them


def sample_seed(seed: int, index: int) -> int:
    """The seed of sample `index` of a run: 63 bits that numpy's SeedSequence makes of (seed, index)."""
    return int(np.random.SeedSequence((seed, index)).generate_state(1, np.uint64)[0] >> np.uint64(1))


def draw(
    model: Generator[Any, Request, Batch],
    requests: Sequence[Request],
    batches: Sequence[Sequence[int]],
    sample: Callable[[Sequence[Request]], Iterator[Batch]],
) -> Iterator[Progress]:
    """Draw the requests batch by batch; yields after every step, with the samples of a batch after its last.

    `sample` is `model.sample` with its steps, its sampler and what else it is told.

    Raises:
        ValueError: what `model.sample` refuses.
    """
    finished = 0
    for places in batches:
        state, evaluations = None, _Calls(model)
        for following in sample([requests[place] for place in places]):
            if state is not None:
                yield Progress(finished, dict(evaluations.counts), {})
            state = following
        evaluations.stop()
        if state is None:
            raise ValueError("the sampler made no step; ask for more steps")
        finished += len(places)
        yield Progress(finished, evaluations.counts, dict(zip(places, model.unpack(state), strict=True)))


class _Calls:
    """Counts the calls of the networks of a model until `stop`."""

    def __init__(self, model: nn.Module) -> None:
        networks = _networks(model)
        self.counts = dict.fromkeys(networks, 0)
        self._hooks = [network.register_forward_hook(self._hook(name)) for name, network in networks.items()]

    def _hook(self, name: str) -> Callable[..., None]:
        def called(*of: object) -> None:
            self.counts[name] += 1

        return called

    def stop(self) -> None:
        for hook in self._hooks:
            hook.remove()


def _networks(model: nn.Module) -> dict[str, nn.Module]:
    """The children of a model by name; those of a generator that it contains in the place of that."""
    found: dict[str, nn.Module] = {}
    for name, child in model.named_children():
        found |= (
            {f"{name}.{inner}": n for inner, n in _networks(child).items()}
            if isinstance(child, Generator)
            else {name: child}
        )
    return found


def batches_of_like_size(
    sizes: Sequence[int], max_pairs: int | None = None, max_samples: int | None = None
) -> list[list[int]]:
    """Places of `sizes` in batches, small samples first.

    A batch has at most `max_pairs` pairs of (padded) nodes, of which PADDING are only there because samples have
    different sizes, and at most `max_samples`; one sample it has in any case.
    """
    batches: list[list[int]] = []
    own_pairs = 0  # of the last batch, without padding
    for place in sorted(range(len(sizes)), key=lambda place: sizes[place]):
        if batches:
            pairs, own_pairs = (len(batches[-1]) + 1) * sizes[place] ** 2, own_pairs + sizes[place] ** 2
            fits = max_samples is None or len(batches[-1]) < max_samples
            if max_pairs is not None:
                fits &= pairs <= max_pairs and pairs - own_pairs <= PADDING * max_pairs
            if fits:
                batches[-1].append(place)
                continue
        batches.append([place])
        own_pairs = sizes[place] ** 2
    return batches
