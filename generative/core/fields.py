"""What a generator is about: named fields, each with its space and its process.

Time runs from t = 0, data, to t = 1, noise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from atomsml.generative.core.noise import SampleNoise
from atomsml.generative.core.processes.base import Process
from atomsml.generative.core.spaces.base import Space

State = dict[str, Tensor]
"""Field name -> (samples, nodes, *shape); zero at padding."""

Predict = Callable[[State, Tensor], State]
"""(x_t, t (samples,)) -> the data, E[x_0 | x_t], of every field; of categories, their probabilities.

Networks, guidance, inpainting and self-conditioning are such functions, or wrap one.
"""


@dataclass(frozen=True)
class Field:
    """One quantity of every node.

    Raises:
        ValueError: the process is not defined on the space.
    """

    space: Space
    process: Process

    def __post_init__(self) -> None:
        if not isinstance(self.space, self.process.spaces):
            raise ValueError(
                f"{type(self.process).__name__} is not defined on {type(self.space).__name__}; "
                f"give it a {self.process.spaces.__name__}"
            )


Fields = Mapping[str, Field]


def prior(fields: Fields, noise: SampleNoise) -> State:
    """The state at t = 1, from which a sampler starts."""
    return {name: field.process.prior(field.space, noise) for name, field in fields.items()}


def corrupt(fields: Fields, data: State, t: Tensor, noise: SampleNoise) -> State:
    """A draw from q(x_t | x_0) of every field, to train on."""
    return {name: field.process.corrupt(field.space, data[name], t, noise) for name, field in fields.items()}
