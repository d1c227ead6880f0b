"""EDM: equivariant diffusion of positions and elements (Hoogeboom et al., arXiv:2203.17003).

    z_t = alpha(t) [x, h] + sigma(t) eps,    h = [onehot(element) / 4, Z / 10],    t = 0, 1/T ... 1

The network predicts eps, and training minimises |eps - eps_hat|^2 over random t. A molecule is drawn in three moves:
its size from the histogram of the training set, z_0 by a sampler (`ddpm` with T steps is the paper's), and x, h from
p(x, h | z_0). Where elements are given, the features h are held by inpainting. The network is ours (`network.py`) or
with `paper` that of the authors (`paper.py`).

| symbol | name | shape |
|---|---|---|
| x | positions | (samples, nodes, 3), Angstrom, centred |
| h | features | (samples, nodes, elements + 1): one-hot elements and atomic numbers Z, scaled; Z may be absent |
| eps | noise | of the same shapes; that of positions is centred too |
| c | conditions | (samples, conditions), (c - mean) / mean absolute deviation; NaN is unknown |
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from atomsml.generative.core.fields import Field, Predict, State, prior
from atomsml.generative.core.guidance import classifier_free
from atomsml.generative.core.inpainting import hold, restore
from atomsml.generative.core.noise import SampleNoise
from atomsml.generative.core.parametrization import convert
from atomsml.generative.core.processes.gaussian import PolynomialVP
from atomsml.generative.core.samplers import find_sampler
from atomsml.generative.core.samplers.base import time_grid
from atomsml.generative.core.spaces.base import VectorSpace
from atomsml.generative.core.spaces.euclidean import CenteredPositions, Euclidean
from atomsml.generative.molecules.edm import bound as edm_bound
from atomsml.generative.molecules.edm.config import EDMConfig as EDMConfig
from atomsml.generative.molecules.edm.network import EDMNetwork, FullGraphs
from atomsml.generative.molecules.edm.paper import PaperNetwork
from atomsml.generative.molecules.model import MoleculeModel, draw_requests
from atomsml.generative.molecules.molecules import Molecules, Request, Scaffold, padded
from atomsml.generative.molecules.set import MoleculeSet


class EDM(MoleculeModel):
    """The generator; `EDM(EDMConfig(elements=(1, 6, 8)))` has random weights and knows no sizes of molecules."""

    Config = EDMConfig
    default_sampler, default_steps, has_bound = "ddpm", 1000, True
    config: EDMConfig
    sizes: ClassVar[dict[str, dict[str, Any]]] = {
        "small": {"channels": 64, "num_layers": 4},
        "medium": {"channels": 128, "num_layers": 6},
        "large": {},
        "paper": {"paper": True, "avg_num_neighbors": 1.0, "condition_dropout": 0.0},
    }
    draws_elements = True
    element_numbers: Tensor  # (elements,): config.elements

    def __init__(self, config: EDMConfig) -> None:
        super().__init__(config)
        self.process = PolynomialVP()
        features = Euclidean((config.num_features,))
        self.spaces: dict[str, VectorSpace] = {"positions": CenteredPositions(), "features": features}
        self.fields = {name: Field(space, self.process) for name, space in self.spaces.items()}
        self.register_buffer("element_numbers", torch.tensor(config.elements), persistent=False)
        self.network: EDMNetwork | PaperNetwork = PaperNetwork(config) if config.paper else EDMNetwork(config)

    @classmethod
    def measure(cls, samples: MoleculeSet) -> dict[str, Any]:
        sizes = samples.sizes
        neighbors = float((sizes * (sizes - 1)).sum() / sizes.sum())
        return {**super().measure(samples), "avg_num_neighbors": max(neighbors, 1.0)}  # lone atoms have none

    def requests(self, seeds: Sequence[int]) -> list[Request]:
        """With nothing fixed, but for what the published network must be told: the means of its conditions."""
        means = dict(zip(self.config.conditions, self.condition_mean.tolist(), strict=True))
        return draw_requests(self, seeds, conditions=means if self.config.paper else None)

    def encode(self, molecules: Molecules) -> State:
        """Molecules as data of the process, in the precision of the model."""
        positions = molecules.positions.to(self.condition_mean)
        return {
            "positions": self.spaces["positions"].project(positions, molecules.mask),
            "features": self.encode_numbers(molecules.numbers),
        }

    def encode_numbers(self, numbers: Tensor) -> Tensor:
        """Features of atomic numbers (samples, nodes).

        Raises:
            ValueError: an element that the model does not know.
        """
        onehot = (numbers[:, :, None] == self.element_numbers).to(self.condition_mean)
        strange = numbers[(numbers > 0) & (onehot.sum(dim=2) == 0)].tolist()
        if strange:
            known = ", ".join(map(str, self.config.elements))
            raise ValueError(f"the model does not know the atomic number {strange[0]}; those it knows are {known}")
        scaled = [self.config.element_scale * onehot]
        if self.config.number_scale is not None:
            scaled.append(self.config.number_scale * numbers[:, :, None].to(onehot))
        return torch.cat(scaled, dim=2)

    def decode(self, state: State, mask: Tensor) -> Molecules:
        """Positions as they are; the element of an atom is the largest of its entries."""
        numbers = self.element_numbers[state["features"][..., : len(self.config.elements)].argmax(dim=2)]
        return Molecules(numbers * mask, state["positions"])

    def predict_noise(self, state: State, t: Tensor, conditions: Tensor, graphs: FullGraphs) -> State:
        """eps_hat(z_t, t) of both fields."""
        positions, features = self.network(state["positions"], state["features"], t, conditions, graphs)
        return {"positions": positions, "features": features}

    def predictor(self, mask: Tensor, conditions: Tensor) -> Predict:
        """Predicts data, as samplers need it, for samples with these atoms and conditions."""
        graphs = FullGraphs.from_mask(mask)

        def predict(state: State, t: Tensor) -> State:
            noise = self.predict_noise(state, t, conditions, graphs)
            return {name: convert(eps, "noise", "data", state[name], self.process, t) for name, eps in noise.items()}

        return predict

    def squared_errors(self, data: State, noise: State, t: Tensor, conditions: Tensor, graphs: FullGraphs) -> State:
        """(samples,) |eps - eps_hat(z_t, t)|^2 of both fields."""
        state = {name: self.process.interpolate(self.spaces[name], data[name], noise[name], t) for name in data}
        predicted = self.predict_noise(state, t, conditions, graphs)
        return {name: (noise[name] - predicted[name]).square().sum(dim=(1, 2)) for name in data}

    def loss(self, batch: Molecules, generator: torch.Generator) -> Tensor:
        """1/2 |eps - eps_hat|^2 over the number of its entries, at t = 0, 1/T ... 1.

        With `paper` that number is the same for all molecules of a batch, that of the largest. At t = 0 only positions
        count: elements are read from z_0 itself, without the network. What of the variational bound no weight changes
        is left out.
        """
        data, graphs = self.encode(batch), FullGraphs.from_mask(batch.mask)
        t = self._draw_steps(0, len(batch), generator) / self.config.num_timesteps
        hidden = torch.rand(len(batch), generator=generator, device=generator.device) < self.config.condition_dropout
        conditions = self.normalised_conditions(batch.conditions, len(batch))
        conditions = conditions.masked_fill(hidden.to(t.device)[:, None], torch.nan)
        errors = self.squared_errors(data, self._draw_noise(batch.mask, generator), t, conditions, graphs)
        nodes = batch.sizes.amax() if self.config.paper else batch.sizes
        entries = nodes * (3 + self.config.num_features)
        return (errors["positions"] + errors["features"] * (t > 0)) / (2 * entries)

    def nll_bound(self, batch: Molecules, generator: torch.Generator) -> Tensor:
        """(samples,) in nats: the variational bound of -log p(x, h, N), with one random t for the sum over t.

        Its mean over many draws is the bound. It is infinite for a size N that the training set lacks.

        Raises:
            ValueError: the model has no histogram of sizes yet.
        """
        steps = self._draw_steps(1, len(batch), generator)
        noise, noise_at_zero = (self._draw_noise(batch.mask, generator) for _ in range(2))
        return self.nll_bound_at(batch, steps, noise, noise_at_zero)

    def nll_bound_at(self, batch: Molecules, steps: Tensor, noise: State, noise_at_zero: State) -> Tensor:
        """`nll_bound` at t = `steps` / T (samples,), with this noise in z_t and z_0."""
        data, graphs = self.encode(batch), FullGraphs.from_mask(batch.mask)
        conditions = self.normalised_conditions(batch.conditions, len(batch))
        steps = steps.cpu().double()  # not every device has float64
        t, s = steps / self.config.num_timesteps, (steps - 1) / self.config.num_timesteps
        errors = self.squared_errors(data, noise, t.to(self.condition_mean), conditions, graphs)
        weight = self.config.num_timesteps / 2 * edm_bound.step_weight(self.process, s, t).to(self.condition_mean)
        at_zero = self.squared_errors(data, noise_at_zero, torch.zeros_like(weight), conditions, graphs)
        noisy = self.process.interpolate(
            self.spaces["features"], data["features"], noise_at_zero["features"], torch.zeros_like(weight)
        )
        log_p_h = edm_bound.log_probability_of_features(
            self.process, data["features"], noisy, self.config.element_scale, self.config.number_scale
        )
        bound = weight * (errors["positions"] + errors["features"]) + at_zero["positions"] / 2
        bound = bound + edm_bound.divergence_and_normaliser(self.process, data, batch.sizes)
        return bound - (log_p_h * batch.mask).sum(dim=1) - self.log_probability_of_size(batch.sizes)

    def log_probability_of_size(self, num_atoms: Tensor) -> Tensor:
        """(samples,) log p(N) by the histogram of the training set.

        Raises:
            ValueError: there is none.
        """
        if self.formula_counts.sum() == 0:
            raise ValueError("the model has no histogram of sizes; call fit() with the training set first")
        same = self.formulas.sum(dim=1) == num_atoms[:, None]
        counts = self.formula_counts.to(self.condition_mean)
        return torch.log((same * counts).sum(dim=1) / counts.sum())

    @torch.no_grad()
    def sample(
        self,
        requests: Sequence[Request],
        steps: int,
        sampler: str = "ddpm",
        scaffold: Scaffold | None = None,
        guidance: float = 1.0,
    ) -> Iterator[Molecules]:
        algorithm = find_sampler(sampler)
        seeds, sizes = [request.seed for request in requests], [request.num_atoms for request in requests]
        noise = SampleNoise(seeds, sizes, max(sizes), self.condition_mean.dtype, self.condition_mean.device)
        known, masks = self._known(requests, scaffold, noise.nodes)
        predict = hold(self._guided(requests, noise.mask, guidance), self.fields, known, masks)
        start, times = prior(self.fields, noise), time_grid(steps, noise.dtype, noise.device)
        state, states = start, algorithm.sample(predict, self.fields, start, times, noise)
        for following in states:
            if state is not start:
                yield self.decode(restore(state, self.fields, known, masks, noise.mask), noise.mask)
            state = following
        last = self.last_step(predict, state, noise)
        yield self.decode(restore(last, self.fields, known, masks, noise.mask), noise.mask)

    def _guided(self, requests: Sequence[Request], mask: Tensor, guidance: float) -> Predict:
        conditions = self.normalised_conditions(self.conditions_of(requests), len(requests))
        unknown = torch.full_like(conditions, torch.nan)
        return classifier_free(self.predictor(mask, conditions), self.predictor(mask, unknown), guidance, self.fields)

    def _known(self, requests: Sequence[Request], scaffold: Scaffold | None, nodes: int) -> tuple[State, State]:
        """What inpainting holds: features of the elements that are given, and positions of the scaffold."""
        first = () if scaffold is None else scaffold.numbers
        numbers = padded([request.numbers or first for request in requests])
        numbers = pad(numbers, (0, nodes - numbers.shape[1])).to(self.element_numbers.device)
        known, masks = {"features": self.encode_numbers(numbers)}, {"features": numbers > 0}
        if scaffold is not None:
            places = pad(scaffold.positions.to(self.condition_mean), (0, 0, 0, nodes - len(first)))
            held = torch.arange(nodes, device=places.device) < len(first)
            known["positions"] = places.expand(len(requests), -1, -1)
            masks["positions"] = held.expand(len(requests), -1)
        return known, masks

    def last_step(self, predict: Predict, state: State, noise: SampleNoise) -> State:
        """A draw of x from p(x | z_0) = N(x_hat, (sigma_0 / alpha_0)^2); the elements are those of z_0."""
        x = predict(state, torch.zeros(len(noise), dtype=noise.dtype, device=noise.device))["positions"]
        return {**state, "positions": x + edm_bound.deviation_at_zero(self.process) * noise(self.spaces["positions"])}

    def _draw_noise(self, mask: Tensor, generator: torch.Generator) -> State:
        """Unit noise of both fields."""
        drawn = {}
        for name, space in self.spaces.items():
            x = torch.randn(*mask.shape, *space.shape, generator=generator, device=generator.device)
            drawn[name] = space.project(x.to(self.condition_mean), mask)
        return drawn

    def _draw_steps(self, first: int, samples: int, generator: torch.Generator) -> Tensor:
        """(samples,) uniform on first ... T, in the precision of the model."""
        end = self.config.num_timesteps + 1
        drawn = torch.randint(first, end, (samples,), generator=generator, device=generator.device)
        return drawn.to(self.condition_mean)


def draw_conditions(
    values: np.ndarray, sizes: np.ndarray, num_atoms: Sequence[int], rng: np.random.Generator
) -> np.ndarray:
    """Properties to ask for, c ~ p(c | N): each that of a random molecule of the data with as many atoms.

    Models are judged on them, because a property that no molecule of that size has cannot be met (section 5.2).

    Args:
        values, sizes: the property and the number of atoms of every molecule of the data.
        num_atoms: those of the molecules that will be drawn.

    Raises:
        ValueError: the data have no molecule of that size.
    """
    missing = sorted(set(num_atoms) - set(sizes.tolist()))
    if missing:
        raise ValueError(f"the data have no molecule of {missing[0]} atoms, whose property could be asked for")
    return np.array([rng.choice(values[sizes == n]) for n in num_atoms])
