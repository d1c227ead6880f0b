"""MoleculeModel: what every generator of molecules has in common, for the trainer and the command line."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import ase
import numpy as np
import torch
from torch import Tensor

from atomsml.generative.core.elements import check_same_elements, symbols
from atomsml.generative.core.generator import Generator
from atomsml.generative.core.sampling import batches_of_like_size
from atomsml.generative.molecules.compositions import MOST_ATOMS, Formula, atoms_of, count_formulas, draw_formula
from atomsml.generative.molecules.molecules import Molecules, Request, Scaffold
from atomsml.generative.molecules.set import MoleculeSet
from atomsml.modelfile import embedded_models, read_metadata

# of atoms in a batch, by the type of device: they keep it busy, and more would only need more memory
PAIRS = {"cpu": 30_000, "cuda": 2_000_000, "mps": 500_000}


class MoleculeModel(Generator[MoleculeSet, Request, Molecules], ABC):
    """A generator of molecules.

    A subclass has a frozen dataclass `Config` with the fields `elements` (atomic numbers, ascending), `conditions`
    (names of the properties it may be asked for) and `num_formulas`, and is built by `Model(config)`.

    | buffer | shape | meaning |
    |---|---|---|
    | formulas | (formulas, elements) | the compositions of the training set |
    | formula_counts | (formulas,) | how many of its molecules have each |
    | condition_mean, condition_scale | (conditions,) | normalisers: mean and mean absolute deviation |
    """

    kind = "molecules"
    suffixes = (".extxyz",)
    takes_smiles: ClassVar[bool] = False  # whether it places the atoms of molecules whose bonds are given
    draws_elements: ClassVar[bool]  # whether elements are generated; otherwise they are given by the composition
    draws_sizes: ClassVar[bool] = False  # whether it decides when a molecule is whole, unless its size is asked for
    composes: ClassVar[bool] = False  # whether it draws the atoms itself, around a scaffold and of a size too
    grows_fragments: ClassVar[bool] = False  # whether it holds all atoms that are given, hydrogens too, and adds others
    formulas: Tensor
    formula_counts: Tensor
    condition_mean: Tensor
    condition_scale: Tensor
    condition_ranges: dict[str, tuple[float, float]]  # least and greatest in the training set; older files do not say

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("formulas", torch.zeros(config.num_formulas, len(config.elements), dtype=torch.int64))
        self.register_buffer("formula_counts", torch.zeros(config.num_formulas, dtype=torch.int64))
        self.register_buffer("condition_mean", torch.zeros(len(config.conditions)))
        self.register_buffer("condition_scale", torch.ones(len(config.conditions)))
        self.condition_ranges = {}

    @abstractmethod
    def sample(
        self,
        requests: Sequence[Request],
        steps: int,
        sampler: str,
        scaffold: Scaffold | None = None,
        guidance: float = 1.0,
    ) -> Iterator[Molecules]:
        """As `Generator.sample`.

        The first atoms of a request that has a scaffold are those of the scaffold. `guidance` is the weight of the
        conditional prediction (Ho & Salimans, arXiv:2207.12598, as 1 + w): 1 follows the conditions as trained.
        """

    def requests(self, seeds: Sequence[int]) -> list[Request]:
        return draw_requests(self, seeds)

    def batches(self, requests: Sequence[Request], at_once: int | None = None) -> list[list[int]]:
        """Of like sizes, small molecules first; where none is asked for, as if they had that of the largest."""
        pairs = PAIRS.get(self.formulas.device.type, PAIRS["cpu"]) if at_once is None else None
        largest = int(self.formulas.sum(dim=1).max()) if len(self.formulas) else 1
        return batches_of_like_size([request.num_atoms or largest for request in requests], pairs, at_once)

    @classmethod
    def read(cls, files: Sequence[str | Path]) -> MoleculeSet:
        from atomsml.generative.molecules.data import read_molecules

        return read_molecules(files)

    @classmethod
    def check(cls, train: MoleculeSet, valid: MoleculeSet) -> list[str]:
        check_same_elements(train.elements, valid.elements)
        return []

    @classmethod
    def measure(cls, samples: MoleculeSet) -> dict[str, Any]:
        formulas, _ = count_formulas(iter(samples.rows()), samples.elements)
        return {"elements": samples.elements, "num_formulas": len(formulas)}

    def fit(self, samples: MoleculeSet) -> None:
        """Take the compositions and the normalisers."""
        formulas, counts = count_formulas(iter(samples.rows()), self.config.elements)
        self.formulas.copy_(torch.from_numpy(formulas))
        self.formula_counts.copy_(torch.from_numpy(counts))
        for i, name in enumerate(self.config.conditions):
            values = samples.properties[name]
            known = values[np.isfinite(values)]
            self.condition_mean[i] = float(known.mean())
            self.condition_scale[i] = max(float(np.abs(known - known.mean()).mean()), 1e-6)
            self.condition_ranges[name] = (float(known.min()), float(known.max()))

    @staticmethod
    def unpack(batch: Molecules) -> list[ase.Atoms]:
        return batch.to_ase()

    @classmethod
    def write(cls, path: Path, samples: Sequence[ase.Atoms]) -> None:
        import ase.io

        ase.io.write(path, samples, format="extxyz")

    @classmethod
    def judge(cls, samples: Sequence[ase.Atoms]) -> dict[str, Any]:
        """The fractions of stable atoms and molecules by the rule of EDM."""
        from atomsml.generative.molecules.metrics.edm import VERSION, stability

        found = stability(samples)
        return {
            "suite": VERSION,
            "stable_atoms": found.atom_fraction,
            "stable_molecules": found.molecule_fraction,
        }

    def describe(self) -> dict[str, Any]:
        """Elements, conditions, and of the training set how many molecules it has and what they span."""
        sizes = self.formulas.sum(dim=1)
        ranges = {name: list(ends) for name, ends in self.condition_ranges.items()}
        return {
            "elements": symbols(self.config.elements),
            "conditions": list(self.config.conditions),
            **({"condition_ranges": ranges} if ranges else {}),
            "molecules": int(self.formula_counts.sum()),
            "smallest": int(sizes.min()) if len(sizes) else 0,
            "largest": int(sizes.max()) if len(sizes) else 0,
        }

    def recall(self, description: Mapping[str, Any]) -> None:
        found = description.get("condition_ranges", {})
        try:
            ranges = {str(name): (float(low), float(high)) for name, (low, high) in found.items()}
        except (AttributeError, TypeError, ValueError):
            ranges = {"": (math.nan, math.nan)}
        if not set(ranges) <= set(self.config.conditions) or not all(low <= high for low, high in ranges.values()):
            raise ValueError("its condition_ranges are not two numbers for each of its conditions")
        self.condition_ranges = ranges

    def check_tables(self) -> None:
        """Refuse a histogram from which nothing that can be made is drawn."""
        for name, table in self.named_buffers(recurse=False):
            # how often a composition was seen; how many atoms of each kind it has
            wrong = table < 1 if name.endswith("_counts") else (table < 0) | (table > MOST_ATOMS)
            if not table.is_floating_point() and wrong.any():
                raise ValueError(f"its compositions are no counts from 0 to {MOST_ATOMS}")
        sizes = self.formulas.sum(dim=1)
        if (sizes < 1).any() or (sizes > MOST_ATOMS).any():
            raise ValueError(f"a composition has not 1 to {MOST_ATOMS} atoms")

    def conditions_of(self, requests: Sequence[Request]) -> dict[str, Tensor]:
        """(samples,) values by name, on the device of the model; NaN where a property is not asked for."""
        values = {n: [request.conditions.get(n, torch.nan) for request in requests] for n in self.config.conditions}
        return {name: self.condition_mean.new_tensor(column) for name, column in values.items()}

    def normalised_conditions(self, conditions: Mapping[str, Tensor], samples: int) -> Tensor:
        """(samples, conditions) of order 1; NaN where a property is not given."""
        columns = [
            conditions[name].to(self.condition_mean)
            if name in conditions
            else self.condition_mean.new_full((samples,), torch.nan)
            for name in self.config.conditions
        ]
        if not columns:
            return self.condition_mean.new_zeros(samples, 0)
        return (torch.stack(columns, dim=1) - self.condition_mean) / self.condition_scale


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
    conditions = dict(conditions or {})
    elements = model.config.elements
    first = scaffold.numbers if scaffold is not None else ()
    check_known(model, {*first, *(formula or ())})
    unknown = sorted(set(conditions) - set(model.config.conditions))
    if unknown:
        has = ", ".join(model.config.conditions) or "none"
        others = _embedded_with(unknown[0])
        hint = f"; take {' or '.join(others)}, which has it" if others else ""
        raise ValueError(f"the model has no condition {unknown[0]!r}; its conditions are: {has}{hint}")
    if formula is not None and num_atoms is not None and sum(formula.values()) != num_atoms:
        raise ValueError(f"the formula has {sum(formula.values())} atoms, not {num_atoms}; give one of the two")
    requests = []
    if formula is None and (model.composes or (model.draws_sizes and num_atoms is None)):
        return [Request(seed, num_atoms or 0, None, conditions) for seed in seeds]
    for seed in seeds:
        drawn = formula or draw_formula(
            model.formulas, model.formula_counts, elements, np.random.default_rng(seed), num_atoms, Counter(first)
        )
        free = model.draws_elements and not model.draws_sizes and formula is None
        numbers = None if free and not first else atoms_of(drawn, first)
        requests.append(Request(seed, sum(drawn.values()), numbers, conditions))
    return requests


def _embedded_with(condition: str) -> list[str]:
    """Names of the embedded generators that can be asked for a property."""
    return [name for name in embedded_models() if condition in read_metadata(name).get("conditions", ())]


def check_known(model: MoleculeModel, numbers: Iterable[int]) -> None:
    """Refuse atomic numbers that the model does not know.

    Raises:
        ValueError: names them.
    """
    elements = model.config.elements
    strange = sorted(set(numbers) - set(elements))
    if strange:
        raise ValueError(
            f"the model does not know {', '.join(symbols(strange))}; its elements are {', '.join(symbols(elements))}"
        )
