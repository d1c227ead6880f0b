"""Symphony: molecules that grow atom by atom (Daigavane et al., arXiv:2311.16199).

    p(molecule) = p(first atom) prod_k p(focus, element | fragment k) p(position | focus, element, fragment k) p(stop)

| factor | what it is | file |
|---|---|---|
| fragments | what may be added to the first k atoms of an order | fragments.py |
| p(focus, element), p(stop) | softmax over atoms and elements, and a stop whose logit is 0 | network.py |
| p(position) | a mixture of distances, exp of spherical harmonics of the direction | distribution.py |
| what is ruled out while it grows | open valences, distances, a formula | valence_state.py, growing.py |

Training minimises, for all fragments of a molecule at once, the mean Kullback-Leibler divergence from the candidates
plus the mean of -log p(position), in nats. What the network is shown is moved by noise, as what it is shown while it
grows has errors; the next atom moves along with its focus.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from atomsml.device import has_float64
from atomsml.generative.molecules.compositions import atoms_of, draw_formula
from atomsml.generative.molecules.model import MoleculeModel
from atomsml.generative.molecules.molecules import Molecules, Request, Scaffold
from atomsml.generative.molecules.set import MoleculeSet
from atomsml.generative.molecules.symphony.config import SymphonyConfig as SymphonyConfig
from atomsml.generative.molecules.symphony.fragments import grow
from atomsml.generative.molecules.symphony.growing import Growing, check_fragment, grown, in_order
from atomsml.generative.molecules.symphony.network import Fragments, SymphonyNetwork

HEAVY_FIRST = 0.7  # of the molecules are learnt in that order
POSITION_NOISE = 0.03  # Angstrom
SAMPLERS = ("masked", "plain")  # with masks of valences and distances, or by the network alone
AT_ONCE = {"cpu": 256, "cuda": 1024}  # molecules


class Symphony(MoleculeModel):
    """The generator of the module docstring."""

    Config = SymphonyConfig
    default_sampler, default_steps = "masked", 60
    draws_elements = draws_sizes = grows_fragments = True
    sizes: ClassVar[dict[str, dict[str, Any]]] = {"small": {}, "medium": {"channels": 64, "hidden": 64}}
    config: SymphonyConfig
    element_numbers: Tensor  # (elements,): config.elements

    def __init__(self, config: SymphonyConfig) -> None:
        super().__init__(config)
        self.network = SymphonyNetwork(config)
        self.register_buffer("element_numbers", torch.tensor(config.elements), persistent=False)

    @classmethod
    def measure(cls, samples: MoleculeSet) -> dict[str, Any]:
        sizes = samples.sizes
        # half of the atoms are there, on the average over the fragments of a molecule
        neighbors = float((sizes * (sizes - 1)).sum() / (2 * sizes.sum()))
        return {**super().measure(samples), "avg_num_neighbors": max(neighbors, 1.0)}

    def loss(self, batch: Molecules, generator: torch.Generator) -> Tensor:
        rng = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
        numbers, device = batch.numbers, self.element_numbers.device
        species = torch.where(batch.mask, torch.searchsorted(self.element_numbers, numbers), -1).cpu().numpy()
        positions = batch.positions.cpu().numpy()
        heavy_first = rng.random(len(batch)) < HEAVY_FIRST
        growth = grow(species, numbers.cpu().numpy() > 1, positions, heavy_first, len(self.config.elements), rng)
        species = np.take_along_axis(species, growth.order, axis=1)
        positions = np.take_along_axis(positions, growth.order[:, :, None], axis=1)
        nodes = species.shape[1]
        # fragment k has the atoms below k, if the molecule has as many
        there = (np.arange(1, nodes + 1) <= batch.sizes.cpu().numpy()[:, None])[:, :, None]
        members = torch.from_numpy(there & np.tri(nodes, dtype=bool)).to(device)
        shown = positions + POSITION_NOISE * rng.standard_normal(positions.shape)
        x, z = torch.from_numpy(positions).to(self.condition_mean), torch.from_numpy(species).to(device)
        fragments = Fragments(
            z, torch.from_numpy(shown).to(x), members, torch.from_numpy(growth.heavy_first).to(device)
        )
        features = self.network(fragments)
        focus = torch.from_numpy(growth.focus).to(device)
        candidates = torch.from_numpy(growth.candidates).to(x)
        places = self._place_loss(features, members, focus, x, z)
        return self._choice_loss(features, members, candidates) + places

    def _choice_loss(self, features: Tensor, members: Tensor, candidates: Tensor) -> Tensor:
        """(samples,) mean KL divergence of p(focus, element) and p(stop) over the fragments."""
        logits = self.network.heads.next_atom(features)
        table = logits.new_full((*members.shape, logits.shape[1]), -torch.inf).index_put((members,), logits)
        there = members.any(dim=2)
        table = torch.cat([table.flatten(2), table.new_zeros(*there.shape, 1)], dim=2)[there]
        wanted = candidates.flatten(2)[there]
        wanted = torch.cat([wanted, (wanted.sum(dim=1, keepdim=True) == 0).to(wanted)], dim=1)
        wanted = wanted / wanted.sum(dim=1, keepdim=True)
        log_p = torch.log_softmax(table, dim=1).clamp(min=-1e4)
        divergence = (torch.xlogy(wanted, wanted) - wanted * log_p).sum(dim=1)
        return _mean(divergence, there)

    def _place_loss(self, features: Tensor, members: Tensor, focus: Tensor, x: Tensor, species: Tensor) -> Tensor:
        """(samples,) mean -log p(position) over the fragments that are not whole."""
        state = torch.cumsum(members.flatten(), dim=0).reshape(members.shape) - 1
        grows = members.any(dim=2)
        grows[:, :-1] &= grows[:, 1:].clone()
        grows[:, -1] = False
        sample, fragment = grows.nonzero(as_tuple=True)
        chosen = focus[sample, fragment]
        where = x[sample, fragment + 1] - x[sample, chosen]
        p = self.network.heads.position(features[state[sample, fragment, chosen]], species[sample, fragment + 1])
        return _mean(-p.log_prob(where), grows)

    def batches(self, requests: Sequence[Request], at_once: int | None = None) -> list[list[int]]:
        """In the order of the requests: how large molecules will be, nobody knows."""
        size = at_once or AT_ONCE.get(self.formulas.device.type, AT_ONCE["cpu"])
        return [list(range(start, min(start + size, len(requests)))) for start in range(0, len(requests), size)]

    @torch.no_grad()
    def sample(
        self,
        requests: Sequence[Request],
        steps: int,
        sampler: str = "masked",
        scaffold: Scaffold | None = None,
        guidance: float = 1.0,
    ) -> Iterator[Molecules]:
        """As `Generator.sample`; `steps` is how many atoms may be added, and a scaffold has all its hydrogens.

        A molecule that still grows after the last step is left as it is.

        Raises:
            ValueError: a fragment to which nothing can be added, or a request that needs more steps.
        """
        yield from self.continued(requests, [scaffold] * len(requests), steps, sampler)

    @torch.no_grad()
    def continued(
        self, requests: Sequence[Request], fragments: Sequence[Scaffold | None], steps: int, sampler: str
    ) -> Iterator[Molecules]:
        """As `sample`, with a fragment for each request."""
        self.check_sampler(sampler)
        pairs = zip(requests, fragments, strict=True)
        molecules = [self._begin(request, fragment, sampler == "masked") for request, fragment in pairs]
        for request, molecule in zip(requests, molecules, strict=True):
            missing = 0 if molecule.left is None else molecule.left.total()
            if missing > steps:
                raise ValueError(
                    f"a molecule of {request.num_atoms} atoms needs {missing} steps, one for each new atom; "
                    f"--steps is {steps}"
                )
        # positions are drawn in float64
        network = self.network if has_float64(self.formulas.device) else copy.deepcopy(self.network).cpu()
        last = None
        for state in grown(network, molecules, self.config.elements, steps):
            if last is not None:
                yield last
            last = state
        yield in_order(molecules, requests)

    def num_states(self, steps: int, sampler: str) -> int | None:
        return None

    @classmethod
    def check_sampler(cls, name: str) -> None:
        if name not in SAMPLERS:
            raise ValueError(f"symphony has no sampler {name!r}; it has {', '.join(SAMPLERS)}")

    def _begin(self, request: Request, fragment: Scaffold | None, masked: bool) -> Growing:
        """What is given, or a first atom."""
        rng = np.random.default_rng(request.seed)
        left = None if request.numbers is None else Counter(request.numbers)
        if fragment is None:
            numbers, positions = [self._first_element(request, rng)], np.zeros((1, 3))
        else:
            numbers, positions = list(fragment.numbers), fragment.positions.detach().cpu().double().numpy()
        if left is not None:
            left.subtract(numbers)
        molecule = Growing(rng, numbers, positions, 1 not in numbers or len(numbers) == 1, left, masked)
        molecule.finished = left is not None and not left.total()
        if fragment is not None and masked:
            check_fragment(molecule)
        return molecule

    def _first_element(self, request: Request, rng: np.random.Generator) -> int:
        """Any heavy atom of the formula, or of one of the training set; hydrogen where there is no heavy atom."""
        numbers = request.numbers
        if numbers is None:
            formula = draw_formula(self.formulas, self.formula_counts, self.config.elements, rng)
            numbers = atoms_of(formula)
        return int(rng.choice([z for z in numbers if z > 1] or list(numbers)))


def _mean(values: Tensor, where: Tensor) -> Tensor:
    """(samples,) means of values, which stand at the true entries of `where` (samples, fragments); 0 of none."""
    table = values.new_zeros(where.shape).index_put((where,), values)
    return table.sum(dim=1) / where.sum(dim=1).clamp(min=1)
