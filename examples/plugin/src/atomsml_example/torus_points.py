"""A generator of points on a torus, by flow matching along geodesics (Chen & Lipman, arXiv:2302.03660).

    x_t = exp(x_0, t log(x_0, noise)),    velocity u = d x_t / dt = -log(x_t, x_0) / t

A network u(x_t, t) is trained on |u - u_true|^2. A sampler follows the velocity back from uniform noise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from atomsml.dataset.content import hash_bytes
from atomsml.generative.core.fields import Field, State, prior
from atomsml.generative.core.generator import Generator
from atomsml.generative.core.noise import SampleNoise
from atomsml.generative.core.processes.geodesic import Geodesic
from atomsml.generative.core.samplers import find_sampler
from atomsml.generative.core.samplers.base import time_grid
from atomsml.generative.core.set import SampleSet
from atomsml.generative.core.spaces.torus import Torus


@dataclass(frozen=True)
class Points:
    """What the network sees together."""

    x: Tensor  # (samples, nodes, 3) in [0, 1); a sample has one node

    def to(self, device: torch.device | str) -> Points:
        return Points(self.x.to(device))


class PointSet(SampleSet[Points]):
    """Points (samples, 3) to learn from."""

    def __init__(self, points: np.ndarray) -> None:
        self.points = points
        self.warnings = ()
        self.properties = {}  # none to ask for

    @property
    def sizes(self) -> np.ndarray:
        return np.ones(len(self.points), np.int64)

    def hashes(self) -> np.ndarray:
        return np.array([hash_bytes(point.tobytes()) for point in self.points], np.uint64)

    def subset(self, rows: np.ndarray) -> PointSet:
        return PointSet(self.points[rows])

    def batch(self, rows: np.ndarray, conditions: Sequence[str] = ()) -> Points:
        return Points(torch.from_numpy(self.points[rows, None].astype(np.float32)))

    def describe(self) -> str:
        return f"{len(self)} points"


@dataclass(frozen=True)
class TorusPointsConfig:
    """Hyperparameters."""

    channels: int = 64  # of each hidden layer

    def __post_init__(self) -> None:
        if not 1 <= self.channels <= 4096:  # a model file is not trusted either
            raise ValueError(f"channels must lie in 1 ... 4096, got {self.channels}")


class TorusPoints(Generator[PointSet, int, Points]):
    """A request is a seed, and what is drawn a row of three fractional coordinates."""

    kind = "points"
    suffixes = (".npz", ".csv")
    Config = TorusPointsConfig
    sizes: ClassVar[dict[str, dict[str, Any]]] = {"small": {}, "large": {"channels": 256}}
    default_sampler, default_steps = "heun", 50

    def __init__(self, config: TorusPointsConfig) -> None:
        super().__init__()
        self.config = config
        self.field = Field(Torus(), Geodesic())
        c = config.channels
        self.network = nn.Sequential(
            nn.Linear(7, c), nn.SiLU(), nn.Linear(c, c), nn.SiLU(), nn.Linear(c, c), nn.SiLU(), nn.Linear(c, 3)
        )

    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        """(samples, nodes, 3) u(x_t, t), periodic in x."""
        angle, time = 2 * math.pi * x, t[:, None, None].expand(*x.shape[:2], 1)
        velocity: Tensor = self.network(torch.cat([angle.sin(), angle.cos(), time], dim=2))
        return velocity

    def loss(self, batch: Points, generator: torch.Generator) -> Tensor:
        space, process = Torus(), Geodesic()
        x, samples = batch.x, len(batch.x)
        t = torch.rand(samples, generator=generator).to(x)
        noise = torch.rand(x.shape, generator=generator).to(x)
        x_t = process.interpolate(space, x, noise, t)
        wrong = self.velocity(x_t, t) - space.log(x, noise)  # the velocity along a geodesic does not change
        return wrong.square().sum(dim=(1, 2))

    def requests(self, seeds: Sequence[int]) -> list[int]:
        return list(seeds)

    @torch.no_grad()
    def sample(self, requests: Sequence[int], steps: int, sampler: str) -> Iterator[Points]:
        like = next(self.parameters())
        fields = {"x": self.field}
        noise = SampleNoise(requests, [1] * len(requests), 1, like.dtype, like.device)

        def predict(state: State, t: Tensor) -> State:
            """The point from which the velocity leads here: samplers want data."""
            x = state["x"]
            return {"x": Torus().exp(x, -t[:, None, None] * self.velocity(x, t))}

        times = time_grid(steps, like.dtype, like.device)
        for state in find_sampler(sampler).sample(predict, fields, prior(fields, noise), times, noise):
            yield Points(state["x"])

    @classmethod
    def read(cls, files: Sequence[str | Path]) -> PointSet:
        return PointSet(np.concatenate([_read(Path(file)) for file in files]))

    @staticmethod
    def unpack(batch: Points) -> list[np.ndarray]:
        return list(batch.x[:, 0].cpu().double().numpy())

    @classmethod
    def write(cls, path: Path, samples: Sequence[np.ndarray]) -> None:
        if path.suffix == ".csv":
            np.savetxt(path, samples, delimiter=",", header="x,y,z", comments="")
        else:
            np.savez(path, points=np.array(samples))


def _read(path: Path) -> np.ndarray:
    """(samples, 3) in [0, 1): the array `points` of an .npz file, or the columns of a .csv file below its header."""
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; check the path")
    try:
        points = (
            np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2) if path.suffix == ".csv" else np.load(path)["points"]
        )
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{path}: cannot be read ({error}); give an .npz file with `points`, or a .csv file") from None
    if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
        raise ValueError(f"{path}: needs rows of three finite numbers, has the shape {points.shape}")
    return points % 1.0
