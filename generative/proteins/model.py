"""BackboneModel: what the generators of backbones have in common; they differ in their processes and losses.

The state of n residues is n frames: unit quaternions on SO(3), and places of CA in UNIT = 10 Angstrom. One network
(network.py) sees noisy frames at a time t and predicts the clean ones. What it said is handed to its next call, half of
the time in training (self-conditioning: Chen et al., arXiv:2208.04202).

Places are about their centre, as in FrameDiff and FrameFlow. Where some residues are known, a motif, places are about
the centre of these instead, and noise is not centred: the motif stays where it is, and is shown to the network at time
0, in a part of the training samples as in sampling (motif amortisation: Yim et al., arXiv:2401.04082, section 3.1).
Drawing ends at t = LEAST_TIME, with what the network predicts there.
"""

from __future__ import annotations

import math
import reprlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from atomsml.generative.core.fields import Fields, State, corrupt, prior
from atomsml.generative.core.generator import Generator
from atomsml.generative.core.noise import SampleNoise
from atomsml.generative.core.samplers import find_sampler
from atomsml.generative.core.samplers.base import GridSampler, Sampler, project
from atomsml.generative.core.samplers.random_walk import RandomWalk
from atomsml.generative.core.sampling import batches_of_like_size
from atomsml.generative.proteins.backbones import BackboneRequest, Backbones, Chain
from atomsml.generative.proteins.given import Given, given_motifs, random_motifs
from atomsml.generative.proteins.network import UNIT, FrameNetwork, FrameNetworkConfig
from atomsml.generative.proteins.set import BackboneSet, read_backbones

LEAST_TIME = 0.01
SHORTEST, LONGEST = 40, 128  # residues of what an untrained model draws
MOST_RESIDUES = 2048  # networks look at all pairs
PAIRS = {"cpu": 65_000, "cuda": 2_000_000, "mps": 500_000}  # of residues in a batch, by the type of device


@dataclass(frozen=True)
class BackboneConfig:
    """Hyperparameters of a generator of backbones."""

    network: FrameNetworkConfig = field(default_factory=FrameNetworkConfig)
    longest: int = LONGEST  # residues of the longest training sample

    def __post_init__(self) -> None:
        if not 1 <= self.longest <= MOST_RESIDUES:
            raise ValueError(f"longest must lie in 1 ... {MOST_RESIDUES}, got {reprlib.repr(self.longest)}")


class BackboneModel(Generator[BackboneSet, BackboneRequest, Backbones], ABC):
    """A generator of backbones.

    | buffer | shape | meaning |
    |---|---|---|
    | lengths | (longest + 1,) | how many training samples have so many residues |
    """

    kind = "backbones"
    suffixes = (".pdb", ".cif", ".pdb.gz", ".cif.gz")
    Config = BackboneConfig
    default_steps = 50
    time_power: ClassVar[
        float
    ]  # steps of drawing are equal in t^(1 / power): above 1 smaller where there is little noise
    sizes: ClassVar[dict[str, dict[str, Any]]] = {
        "small": {},
        "medium": {"network": FrameNetworkConfig(256, 64, num_layers=6, hidden=512)},
    }
    config: BackboneConfig
    lengths: Tensor

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.config = config
        self.network = FrameNetwork(config.network)
        lengths = torch.zeros(config.longest + 1, dtype=torch.int64)
        lengths[min(SHORTEST, config.longest) :] = 1
        self.register_buffer("lengths", lengths)

    # what a subclass decides

    @abstractmethod
    def fields(self, given: Given, drawing: bool) -> Fields:
        """Of "rotations" and "positions"; a schedule of sampling may differ from that of training."""

    @abstractmethod
    def errors(self, found: State, clean: State, noisy: State, t: Tensor, free: Tensor) -> Tensor:
        """(samples,) losses of predicted frames; `free` (samples, residues) are the residues to be found."""

    @abstractmethod
    def as_data(self, found: State, state: State, t: Tensor) -> State:
        """Predicted frames as the predictions of data that the processes read."""

    # training

    @classmethod
    def read(cls, files: Sequence[str | Path]) -> BackboneSet:
        return read_backbones(files)

    @classmethod
    def measure(cls, samples: BackboneSet) -> dict[str, Any]:
        return {"longest": int(samples.sizes.max())}

    def fit(self, samples: BackboneSet) -> None:
        self.lengths.copy_(torch.from_numpy(np.bincount(samples.sizes, minlength=len(self.lengths))))

    def start_from(self, other: Generator[Any, Any, Any]) -> None:
        """Take the weights of another generator of backbones, a flow or a diffusion, with the same network."""
        if not isinstance(other, BackboneModel) or other.config.network != self.config.network:
            raise ValueError("a generator of backbones starts from another one with the same widths of its network")
        self.network.load_state_dict(other.network.state_dict())

    def loss(self, batch: Backbones, generator: torch.Generator) -> Tensor:
        seeds = torch.randint(2**62, (len(batch) + 1,), generator=generator).tolist()
        rng = np.random.default_rng(seeds.pop())
        clean = {"rotations": batch.quaternions, "positions": batch.positions / UNIT}
        given = Given.of(clean, batch.mask, random_motifs(batch.mask, rng))
        fields = self.fields(given, drawing=False)
        dtype, device = batch.positions.dtype, batch.positions.device
        noise = SampleNoise(seeds, batch.sizes.tolist(), batch.mask.shape[1], dtype, device)
        # spread evenly, which makes the mean over a batch less noisy
        u = (rng.random() + np.arange(len(batch)) / len(batch)) % 1
        t = torch.from_numpy(LEAST_TIME + (1 - LEAST_TIME) * u).to(device, dtype)
        clean = given.frames
        noisy = given.hold(project(fields, corrupt(fields, clean, t, noise), noise))
        last = None
        if rng.random() < 0.5:
            with torch.no_grad():
                last = self.predict(noisy, t, given, None)["positions"]
        found = self.predict(noisy, t, given, last)
        return self.errors(found, clean, noisy, t, given.mask & ~given.known)

    def predict(self, state: State, t: Tensor, given: Given, last: Tensor | None) -> State:
        """The clean frames; `state` has the known residues already."""
        found = self.network(state["rotations"], state["positions"], t, given.mask, given.known, last)
        return dict(zip(("rotations", "positions"), found, strict=True))

    # drawing

    def requests(self, seeds: Sequence[int]) -> list[BackboneRequest]:
        """Lengths are as frequent as in the training set."""
        share = self.lengths.double().cpu().numpy()
        share /= share.sum()
        return [
            BackboneRequest(seed, int(np.random.default_rng([seed, 1]).choice(len(share), p=share))) for seed in seeds
        ]

    def batches(self, requests: Sequence[BackboneRequest], at_once: int | None = None) -> list[list[int]]:
        """Of like lengths, short chains first."""
        pairs = PAIRS.get(self.lengths.device.type, PAIRS["cpu"]) if at_once is None else None
        return batches_of_like_size([request.length for request in requests], pairs, at_once)

    @classmethod
    def check_sampler(cls, name: str) -> None:
        if not isinstance(find_sampler(name), GridSampler) or name in ("ddim", "ddpm", "predictor-corrector"):
            raise ValueError(f"the sampler {name!r} does not turn frames; take one of: euler, heun, random-walk")

    @torch.no_grad()
    def sample(
        self, requests: Sequence[BackboneRequest], steps: int, sampler: str, noise_scale: float = 1.0
    ) -> Iterator[Backbones]:
        """As `Generator.sample`, in float64 and on the CPU; residues of a motif are exactly as given, in its frame.

        Args:
            noise_scale: of the noise that a stochastic sampler adds; below 1 samples are nearer to the modes.

        Raises:
            ValueError: an unknown or unsuited sampler, no step, or a noise scale for a sampler without noise.
        """
        algorithm = _algorithm(self, sampler, noise_scale)
        if steps < 1:
            raise ValueError(f"drawing needs at least one step, got {steps}")
        weight = next(self.network.parameters())
        given, origins = given_motifs(requests, weight.dtype, weight.device)
        fields = self.fields(given, drawing=True)
        sizes = [request.length for request in requests]
        noise = SampleNoise([request.seed for request in requests], sizes, max(sizes), weight.dtype, weight.device)
        predictor = Predictor(self, given)
        ends = 1.0, LEAST_TIME ** (1 / self.time_power)
        times = torch.linspace(*ends, steps, dtype=weight.dtype, device=weight.device) ** self.time_power
        times = torch.cat([times, times.new_zeros(1)])
        start = project(fields, prior(fields, noise), noise)
        for number, state in enumerate(algorithm.sample(predictor, fields, start, times, noise), start=1):
            if number == steps:
                state = project(fields, predictor.frames, noise)
            yield _backbones(state, given.mask, origins, requests)

    # what becomes of it

    @staticmethod
    def unpack(batch: Backbones) -> list[Chain]:
        return batch.to_chains()

    @classmethod
    def write(cls, path: Path, samples: Sequence[Chain]) -> None:
        from atomsml.generative.proteins.io.files import write_chains

        write_chains(path, samples)

    @classmethod
    def judge(cls, samples: Sequence[Chain]) -> dict[str, Any]:
        """Geometry, clashes, secondary structure and compactness; null where it is about none."""
        from atomsml.generative.proteins.metrics.evaluate import summary

        return {name: value if math.isfinite(value) else None for name, value in summary(samples).items()}

    def describe(self) -> dict[str, Any]:
        """Of the training samples how many there are, and the lengths they span."""
        seen = torch.nonzero(self.lengths)
        return {
            "backbones": int(self.lengths.sum()),
            "shortest": int(seen.min()) if len(seen) else 0,
            "longest": int(seen.max()) if len(seen) else 0,
        }

    def check_tables(self) -> None:
        """Refuse a histogram of lengths of which none can be drawn."""
        if (self.lengths < 0).any() or self.lengths[0] != 0 or not self.lengths.any():
            raise ValueError("its lengths of chains are no counts")


class Predictor:
    """The network of a model as the prediction that samplers ask for; it remembers the frames that it said last."""

    def __init__(self, model: BackboneModel, given: Given) -> None:
        self.model, self.given = model, given
        self.frames: State = {}

    def __call__(self, state: State, t: Tensor) -> State:
        self.frames = self.model.predict(self.given.hold(state), t, self.given, self.frames.get("positions"))
        return self.model.as_data(self.frames, state, t)


def _algorithm(model: BackboneModel, name: str, noise_scale: float) -> Sampler:
    model.check_sampler(name)
    algorithm = find_sampler(name)
    if noise_scale == 1:
        return algorithm
    if not isinstance(algorithm, RandomWalk):
        raise ValueError(f"the sampler {name!r} adds no noise that a noise scale could change; take random-walk")
    return replace(algorithm, noise_scale=noise_scale)


def _backbones(state: State, mask: Tensor, origins: Tensor, requests: Sequence[BackboneRequest]) -> Backbones:
    """In Angstrom, motifs exactly where they were given."""
    mask = mask.cpu()
    quaternions = state["rotations"].cpu().double()
    positions = (UNIT * state["positions"].cpu().double() + origins[:, None]) * mask[..., None]
    for row, request in enumerate(requests):
        if request.motif is not None:
            places = list(request.motif.places)
            quaternions[row, places] = request.motif.quaternions.double()
            positions[row, places] = request.motif.positions.double()
    return Backbones(quaternions, positions, mask)
