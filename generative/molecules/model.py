"""MoleculeModel: what every generator of molecules has in common, for the trainer and the command line."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from atomsml.generative.molecules.compositions import Formula, atoms_of, count_formulas, draw_formula
from atomsml.generative.molecules.molecules import Molecules, Request, Scaffold
from atomsml.generative.molecules.set import MoleculeSet


class MoleculeModel(nn.Module, ABC):
    """A network, its loss, and how molecules are drawn from it.

    A subclass has a frozen dataclass `Config` with the fields `elements` (atomic numbers, ascending), `conditions`
    (names of the properties it may be asked for) and `num_formulas`, and is built by `Model(config)`.

    | buffer | shape | meaning |
    |---|---|---|
    | formulas | (formulas, elements) | the compositions of the training set |
    | formula_counts | (formulas,) | how many of its molecules have each |
    | condition_mean, condition_scale | (conditions,) | normalisers: mean and mean absolute deviation |
    """

    Config: ClassVar[type[Any]]
    sizes: ClassVar[dict[str, dict[str, Any]]]  # name -> config fields, from quick to accurate
    default_sampler: ClassVar[str]  # what its molecules are drawn with unless asked otherwise
    default_steps: ClassVar[int]
    draws_elements: ClassVar[bool]  # whether elements are generated; otherwise they are given by the composition
    config: Any
    formulas: Tensor
    formula_counts: Tensor
    condition_mean: Tensor
    condition_scale: Tensor

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("formulas", torch.zeros(config.num_formulas, len(config.elements), dtype=torch.int64))
        self.register_buffer("formula_counts", torch.zeros(config.num_formulas, dtype=torch.int64))
        self.register_buffer("condition_mean", torch.zeros(len(config.conditions)))
        self.register_buffer("condition_scale", torch.ones(len(config.conditions)))

    @abstractmethod
    def loss(self, batch: Molecules, generator: torch.Generator) -> Tensor:
        """(samples,) what training minimises the mean of, at random times with random noise."""

    @abstractmethod
    def sample(
        self,
        requests: Sequence[Request],
        steps: int,
        sampler: str,
        scaffold: Scaffold | None = None,
        guidance: float = 1.0,
    ) -> Iterator[Molecules]:
        """Molecules as they form, one batch after every step; the last is the result.

        The first atoms of a request that has a scaffold are those of the scaffold. `guidance` is the weight of the
        conditional prediction (Ho & Salimans, arXiv:2207.12598, as 1 + w): 1 follows the conditions as trained.

        Raises:
            ValueError: an unknown sampler, or one that the process of this model does not allow.
        """

    @classmethod
    def measure(cls, molecules: MoleculeSet) -> dict[str, Any]:
        """Config fields that follow from a training set, such as the sizes of tables."""
        formulas, _ = count_formulas(iter(molecules.rows()), molecules.elements)
        return {"num_formulas": len(formulas)}

    @classmethod
    def check(cls, molecules: MoleculeSet) -> None:
        """Refuse molecules that this kind of generator cannot be trained on.

        Raises:
            ValueError: names the molecule.
        """

    def fit(self, molecules: MoleculeSet) -> None:
        """Take the compositions and the normalisers from the training set that was measured."""
        formulas, counts = count_formulas(iter(molecules.rows()), self.config.elements)
        self.formulas.copy_(torch.from_numpy(formulas))
        self.formula_counts.copy_(torch.from_numpy(counts))
        for i, name in enumerate(self.config.conditions):
            values = molecules.properties[name]
            known = values[np.isfinite(values)]
            self.condition_mean[i] = float(known.mean())
            self.condition_scale[i] = max(float(np.abs(known - known.mean()).mean()), 1e-6)

    def normalised_conditions(self, conditions: Mapping[str, Tensor], samples: int) -> Tensor:
        """(samples, conditions) of order 1; NaN where a property is not given."""
        columns = [
            conditions.get(name, self.condition_mean.new_full((samples,), torch.nan)) for name in self.config.conditions
        ]
        if not columns:
            return self.condition_mean.new_zeros(samples, 0)
        return (torch.stack(columns, dim=1).to(self.condition_mean) - self.condition_mean) / self.condition_scale


def draw_requests(
    model: MoleculeModel,
    seeds: Sequence[int],
    num_atoms: int | None = None,
    formula: Formula | None = None,
    scaffold: Scaffold | None = None,
    conditions: Mapping[str, float] | None = None,
) -> list[Request]:
    """One request for every seed; what is not fixed is drawn from the compositions of the training set.

    Raises:
        ValueError: elements or conditions that the model does not know, or constraints that contradict each other.
    """
    from ase.data import chemical_symbols

    conditions = dict(conditions or {})
    elements = model.config.elements
    first = scaffold.numbers if scaffold is not None else ()
    strange = sorted((set(first) | set(formula or ())) - set(elements))
    if strange:
        names = ", ".join(chemical_symbols[z] for z in strange)
        raise ValueError(
            f"the model does not know {names}; its elements are {', '.join(chemical_symbols[z] for z in elements)}"
        )
    unknown = sorted(set(conditions) - set(model.config.conditions))
    if unknown:
        has = ", ".join(model.config.conditions) or "none"
        raise ValueError(f"the model has no condition {unknown[0]!r}; its conditions are: {has}")
    if formula is not None and num_atoms is not None and sum(formula.values()) != num_atoms:
        raise ValueError(f"the formula has {sum(formula.values())} atoms, not {num_atoms}; give one of the two")
    requests = []
    for seed in seeds:
        drawn = formula or draw_formula(
            model.formulas, model.formula_counts, elements, np.random.default_rng(seed), num_atoms, Counter(first)
        )
        free = model.draws_elements and formula is None
        numbers = None if free and not first else atoms_of(drawn, first)
        requests.append(Request(seed, sum(drawn.values()), numbers, conditions))
    return requests
