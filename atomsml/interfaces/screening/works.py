"""What workers do with structures: energies, or relaxations; a chunk is one batch of the model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import ase
import numpy as np

from atomsml.interfaces.ase import AtomsMLCalculator
from atomsml.io.versions import library_versions
from atomsml.modelfile import model_hash
from atomsml.properties.engine import Engine
from atomsml.properties.task import Failure
from atomsml.simulate.constraints import projectors
from atomsml.simulate.relax import RelaxSettings

NO_ANSWER = "the model gives no finite energy and forces; do atoms overlap?"


@dataclass(frozen=True)
class Found:
    """A structure with its results, and what else is to be told of it."""

    atoms: ase.Atoms  # with energy, forces and stress
    facts: dict[str, float | str | bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Calculation(ABC):
    """Work for `screen`. A worker loads the model once, and refuses to compute by another file of the same name.

    Args:
        model: a name, or a file that workers find under the same path. Options are those of `AtomsMLCalculator`.

    Raises:
        ValueError: an unknown model.
    """

    model: str
    device: str = "auto"
    precision: str = "mixed"
    exact: bool = False
    d3: str | None = None
    sha256: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha256", model_hash(self.model))

    def __call__(self, structures: Sequence[ase.Atoms]) -> list[Found | Failure]:
        """A result for each, or why there is none."""
        calculator = _calculator(self.model, self.sha256, self.device, self.precision, self.exact, self.d3)
        answers: list[Found | Failure | None] = [self._refused(calculator, atoms) for atoms in structures]
        left = [i for i, refusal in enumerate(answers) if refusal is None]
        some = [structures[i] for i in left]
        if some:
            for i, found in zip(left, self._compute(some, Engine.of(calculator, some)), strict=True):
                answers[i] = found if _is_finite(found.atoms) else Failure(NO_ANSWER)
        return [answer for answer in answers if answer is not None]

    def _refused(self, calculator: AtomsMLCalculator, atoms: ase.Atoms) -> Failure | None:
        try:
            calculator.check(atoms)
            self._check(atoms)
        except ValueError as error:
            return Failure(str(error))
        return None

    def provenance(self) -> dict[str, Any]:
        """What is needed to repeat it: kind, model and its hash, settings, and the versions of libraries."""
        options = {key: value for key, value in asdict(self).items() if key not in ("model", "sha256", "device")}
        model = {"name": self.model, "sha256": self.sha256}
        kind = type(self).__name__.lower()
        return {"work": kind, "model": model, "options": options, "versions": library_versions()}

    @abstractmethod
    def _check(self, atoms: ase.Atoms) -> None:
        """Raise a ValueError for atoms that the settings do not fit."""

    @abstractmethod
    def _compute(self, structures: Sequence[ase.Atoms], engine: Engine) -> list[Found]:
        """Of structures that were checked."""


@dataclass(frozen=True)
class Energies(Calculation):
    """Energy, forces, and of crystals stress, of structures as they are."""

    def _check(self, atoms: ase.Atoms) -> None:
        pass

    def _compute(self, structures: Sequence[ase.Atoms], engine: Engine) -> list[Found]:
        crystals = [bool(atoms.pbc.all()) for atoms in structures]
        found: dict[int, ase.Atoms] = {}
        for stress in (True, False):
            some = [i for i, crystal in enumerate(crystals) if crystal is stress]
            found |= zip(some, engine.evaluate([structures[i] for i in some], stress), strict=True)
        return [Found(found[i]) for i in range(len(structures))]


@dataclass(frozen=True)
class Relaxations(Calculation):
    """Structures at their nearest minima. Look at `converged`: one that gave up is a result as well, and says so."""

    settings: RelaxSettings = field(default_factory=RelaxSettings)

    def _check(self, atoms: ase.Atoms) -> None:
        self.settings.check(atoms)
        projectors(atoms)

    def _compute(self, structures: Sequence[ase.Atoms], engine: Engine) -> list[Found]:
        found: dict[int, Found] = {}
        for each in engine.relax(structures, self.settings):
            state = each.state
            facts = {"converged": state.converged, "ended": state.reason, "steps": state.step}
            found[each.index] = Found(
                each.atoms, {**facts, "max_force": state.fmax, "energy_before": each.start_energy}
            )
        return [found[i] for i in range(len(structures))]


def _is_finite(atoms: ase.Atoms) -> bool:
    return bool(np.isfinite(atoms.calc.results["energy"]) and np.isfinite(atoms.calc.results["forces"]).all())


@lru_cache(maxsize=2)
def _calculator(
    model: str | Path, sha256: str, device: str, precision: str, exact: bool, d3: str | None
) -> AtomsMLCalculator:
    there = model_hash(model)
    if there != sha256:
        raise ValueError(f"the worker has another file as the model {model}: sha256 {there}, not {sha256}")
    return AtomsMLCalculator(model, device, precision, exact=exact, d3=d3)
