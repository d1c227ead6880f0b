"""Fine-tune a trained potential: which of its parameters move, by how much, and what it must not forget.

| method | what is trained |
|---|---|
| naive | every parameter |
| freeze | the parameters that a pattern names; the others keep their values |
| lora | a low-rank update of every matrix (Hu et al., arXiv:2106.09685), which is folded into the matrix at the end |

A replay set, usually a part of what the base model was trained on, keeps the model from forgetting.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from atomsml.dataset import Dataset, least_squares_references, plan_batches
from atomsml.graph import NeighborGraph
from atomsml.modelfile import load
from atomsml.potential import Potential, check_elements, evaluate
from atomsml.training.architecture import check_has_charges, new_model_of
from atomsml.training.config import FinetuneConfig

SAMPLED = 100  # structures of a replay set by which its level of theory is checked
SAME_LEVEL = 1.0  # eV/atom: no useful model errs by more, and total energies of two codes differ by more


def with_charges(potential: Potential, charges: bool, seed: int) -> Potential:
    """A trained potential with a charge head, a new one if it has none, if the run learns charges, else without.

    Charges that are not trained would no longer go with weights that are.

    Raises:
        ValueError: the architecture has no charges.
    """
    if charges:
        check_has_charges(type(potential))
    if potential.has_charges == charges:
        return potential
    with_or_without = dataclasses.replace(potential.config, charges=charges)
    changed = new_model_of(type(potential), with_or_without, seed).cast(potential.dtype)
    known = potential.state_dict()
    changed.load_state_dict({name: known.get(name, new) for name, new in changed.state_dict().items()}, assign=True)
    changed.electronic_state = potential.electronic_state
    return changed


def prepare(potential: Potential, config: FinetuneConfig, generator: torch.Generator) -> Potential:
    """The potential to train: the given one, with what is frozen marked as such, or low-rank updates around it.

    Only parameters with `requires_grad` are to be trained. `merge` turns the result into a plain model again.
    """
    if config.method == "lora":
        return LowRankAdapted(potential, config.lora_rank, config.lora_alpha, generator)
    freeze_all_but(potential, config.trainable if config.method == "freeze" else ("*",))
    return potential


def merge(potential: Potential) -> Potential:
    """A plain model, with plain parameter names, of what `prepare` returned; it can be saved like any other."""
    return potential.merged() if isinstance(potential, LowRankAdapted) else potential


def freeze_all_but(potential: Potential, patterns: Sequence[str]) -> None:
    """Let only parameters train whose name matches one of the patterns (`*` and `?` as in file names).

    Raises:
        ValueError: a pattern that matches no parameter; lists the names.
    """
    names = [name for name, _ in potential.named_parameters()]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(
                f"finetune.trainable: no parameter matches {pattern!r}; the parameters are {', '.join(names)}"
            )
    for name, parameter in potential.named_parameters():
        parameter.requires_grad_(any(fnmatchcase(name, pattern) for pattern in patterns))


class LowRankAdapted(Potential):
    """A frozen potential with a trainable low-rank update of each of its matrices.

        W' = W + (alpha / r) B A         (Hu et al., arXiv:2106.09685)

    with B (rows, r) = 0 and A (r, columns) ~ N(0, 1 / r) at the start, so that training starts at the base model and a
    step of an entry of B changes W' by as much as a step of W would. Parameters with leading axes (elements, paths)
    are batches of matrices and get one B and A for each; r is at most the smaller side of a matrix. Vectors and scalars
    stay as they are.

    Raises:
        ValueError: the base model has no matrix.
    """

    def __init__(self, base: Potential, rank: int, alpha: float, generator: torch.Generator) -> None:
        nn.Module.__init__(self)  # config and references are those of the base model
        self.base = base.requires_grad_(False)
        self.config, self.cutoff, self.elements = base.config, base.cutoff, base.elements
        self.direct_forces, self.electronic_state = base.direct_forces, base.electronic_state
        self.charge_head = None  # refused by the config: the few weights of a head need no low rank
        self.scale = alpha / rank
        self.down, self.up = nn.ParameterDict(), nn.ParameterDict()  # A and B
        for name, weight in base.named_parameters():
            if weight.ndim < 2:
                continue
            *batch, rows, columns = weight.shape
            r = min(rank, rows, columns)
            down = torch.randn(*batch, r, columns, generator=generator, dtype=torch.float64) / math.sqrt(r)
            self.down[_key(name)] = nn.Parameter(down.to(weight))
            self.up[_key(name)] = nn.Parameter(weight.new_zeros(*batch, rows, r))
        if not self.up:
            raise ValueError("finetune.method lora: no parameter of the model is a matrix; take naive or freeze")

    @property
    def references(self) -> Tensor:  # type: ignore[override]
        return self.base.references

    def cast(self, dtype: torch.dtype) -> Self:
        self.base.cast(dtype)
        self.down.to(dtype)
        self.up.to(dtype)
        return self

    def forward(self, graph: NeighborGraph) -> Tensor:
        energies: Tensor = torch.func.functional_call(self.base, self._weights(), (graph,))
        return energies

    def forward_with_forces(self, graph: NeighborGraph) -> tuple[Tensor, Tensor]:
        weights = {f"potential.{name}": weight for name, weight in self._weights().items()}
        found: tuple[Tensor, Tensor] = torch.func.functional_call(_WithForces(self.base), weights, (graph,))
        return found

    @torch.no_grad()
    def merged(self) -> Potential:
        """A copy of the base model with the updates folded into its matrices, all of them trainable."""
        plain = copy.deepcopy(self.base)
        for name, weight in self._weights().items():
            plain.get_parameter(name).copy_(weight)
        return plain.requires_grad_(True)

    def _weights(self) -> dict[str, Tensor]:
        return {
            name: weight + self.scale * (self.up[_key(name)] @ self.down[_key(name)])
            for name, weight in self.base.named_parameters()
            if _key(name) in self.up
        }


class _WithForces(nn.Module):
    """`forward_with_forces` of a potential as a module's forward, which is all that functional_call can ask for."""

    def __init__(self, potential: Potential) -> None:
        super().__init__()
        self.potential = potential

    def forward(self, graph: NeighborGraph) -> tuple[Tensor, Tensor]:
        return self.potential.forward_with_forces(graph)


def _key(name: str) -> str:
    """Names of parameters must not contain dots."""
    return name.replace(".", "/")


def check_fits(potential: Potential, dataset: Dataset) -> None:
    """Refuse data with elements that the base model was not made for.

    Raises:
        ValueError: names the elements.
    """
    try:
        check_elements(list(dataset.elements), potential.elements)
    except ValueError as error:
        raise ValueError(
            f"data for fine-tuning: {error}; leave these structures out, or train a model of its own on them"
        ) from None


def refit_references(potential: Potential, dataset: Dataset) -> Tensor:
    """Move the reference energies of a base model to the level of theory of new data; returns by how much.

        d = argmin sum_i [(E_i - E_base,i - sum_Z n_iZ d_Z) / n_i]^2        d (elements,), eV; the shortest one of many

    n_iZ counts the atoms of element Z among the n_i atoms of structure i. Two levels of theory, or total energies and
    binding energies, differ by up to thousands of eV per atom, nearly all of it a constant of each element, which
    gradient steps would take forever to learn. Take it whenever the labels may come from another code, functional,
    basis or pseudopotential than those of the base model; where they do not, d is as small as the base model's errors.
    The base model's own references are better where both levels are the same and energies of isolated atoms matter.

    Compositions that do not tell the elements apart, such as those of one molecule, leave d undetermined. The shortest
    d moves the references as little as possible, and those of absent elements not at all.

    Raises:
        ValueError: no structure has an energy.
    """
    predicted = _energies(potential, dataset)
    moved = least_squares_references(_with_energies(dataset, dataset.energy - predicted), potential.elements)
    potential.references.add_(moved.to(potential.references))
    return moved


def replay_for(potential: Potential, base: str, replay: Dataset) -> Dataset:
    """A replay set, in memory, as `potential` is to be trained on it that started from the model `base`.

    A replay set is labelled like the training set of the base model. Where the references have moved to another level
    of theory, its energies must move with them, so that the energies relative to the references stay what they were.

    Raises:
        ValueError: elements that the model does not know, or energies of another level of theory than the base model's.
    """
    check_fits(potential, replay)
    base_model = load(base)
    known = np.flatnonzero(~np.isnan(replay.energy))
    sample = replay.subset(known[:: max(1, len(known) // SAMPLED)])
    if len(sample):
        missed = np.median(np.abs(sample.energy - _energies(base_model, sample)) / sample.num_atoms)
        if missed > SAME_LEVEL:
            raise ValueError(
                f"energies of the replay set and of the base model {base} differ by {missed:.3g} eV/atom: replay takes "
                "structures labelled like the base model's training set; others belong to data.train"
            )
    moved = (potential.references.cpu() - base_model.references).numpy()
    counts = np.concatenate([block[:, list(potential.elements)] for _, block in replay.compositions()])
    return _with_energies(replay, replay.energy + counts @ moved)


def _energies(potential: Potential, dataset: Dataset, batch_atoms: int = 2000) -> np.ndarray:
    """(structures,) eV; NaN where there is no label to compare with."""
    known = np.flatnonzero(~np.isnan(dataset.energy))
    predicted = np.full(len(dataset), np.nan)
    for indices in plan_batches(known, dataset.num_atoms, None, None, batch_atoms, None):
        graph = dataset.batch(indices).to(potential.references.device)
        predicted[indices] = evaluate(potential, graph, forces=False).energy.cpu().numpy()
    return predicted


def _with_energies(dataset: Dataset, energies: np.ndarray) -> Dataset:
    everything = np.arange(len(dataset))
    weights = dataset.batch(everything).system_data["weight"].numpy()
    columns = dataclasses.replace(dataset.columns(everything), energy=energies)
    return Dataset([columns], dataset.found, weights=weights)


def mixed_order(num_new: int, num_replay: int, replay_weight: float, rng: np.random.Generator) -> np.ndarray:
    """Indices of one epoch on new data followed by replay data, in random order.

    An epoch is every new structure once and `replay_weight * num_new` structures of the replay, drawn anew each time:
    the replay weighs `replay_weight` times as much in the loss as the new data, whatever the sizes of the two sets.
    The weight is how often a structure is seen and not a factor on its loss: a factor cancels where a loss is divided
    by the weights of a batch or a gradient is clipped, and it spends most of the time on a replay set that is large
    but hardly counts.

    Returns:
        (epoch,) int64: 0 .. num_new - 1 new, num_new .. num_new + num_replay - 1 replay.
    """
    if num_replay == 0:
        return rng.permutation(num_new)
    wanted = replay_weight * num_new
    count = int(wanted + rng.random())  # a fraction of a structure is drawn as often as it says
    rounds = -(-count // num_replay)
    drawn = np.concatenate([rng.permutation(num_replay) for _ in range(rounds)] or [np.arange(0)])[:count]
    return rng.permutation(np.concatenate([np.arange(num_new), num_new + drawn]))
