"""evaluate_molecules: run suites over generated molecules, and say what they were compared with."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import ase
import numpy as np

from atomsml.dataset.content import GRID, SHIFT
from atomsml.generative.molecules.metrics.edm import edm
from atomsml.generative.molecules.metrics.geometry import geometry
from atomsml.generative.molecules.metrics.perception import Perceived, perceive
from atomsml.generative.molecules.metrics.posebusters import bust, check_installed, posebusters
from atomsml.generative.molecules.metrics.results import SuiteResult
from atomsml.generative.molecules.metrics.strict import invalid, strict
from atomsml.generative.molecules.relaxation import RelaxedMolecule, relax_molecules
from atomsml.potential import Predictor

SUITES = ("edm", "strict", "geometry", "posebusters")

Item = TypeVar("Item")


class Follow(Protocol):
    """Passes the items of a long task on as they come, and may show how far it is."""

    def __call__(self, items: Iterable[Item], total: int, label: str) -> Iterator[Item]: ...


@dataclass(frozen=True)
class Reference:
    """What molecules are compared with: other molecules, or SMILES alone, which say only what is novel."""

    name: str
    molecules: Sequence[ase.Atoms] = ()
    smiles: frozenset[str] = frozenset()  # as perception writes them; without molecules only

    @property
    def sha256(self) -> str:
        """Of numbers and positions to 1e-4 A in order, or of the sorted SMILES, in whatever file they came."""
        digest = hashlib.sha256("\n".join(sorted(self.smiles)).encode())
        for atoms in self.molecules:
            digest.update(atoms.numbers.astype("<i8").tobytes())
            digest.update(np.floor(atoms.positions / GRID + SHIFT).astype("<i8").tobytes())
        return digest.hexdigest()

    def to_json(self) -> dict[str, Any]:
        molecules = len(self.molecules) or len(self.smiles)
        return {"name": self.name, "sha256": self.sha256, "molecules": molecules}


@dataclass(frozen=True)
class Evaluation:
    """What all suites found."""

    suites: Mapping[str, SuiteResult]
    molecules: int
    smiles: tuple[str, ...]  # of each molecule; "" where no bonds were perceived or looked for
    reference: Reference | None

    def to_json(self) -> dict[str, Any]:
        return {
            "molecules": self.molecules,
            "reference": None if self.reference is None else self.reference.to_json(),
            "suites": {name: suite.to_json() for name, suite in self.suites.items()},
        }


def evaluate_molecules(
    molecules: Sequence[ase.Atoms],
    suites: Sequence[str] = ("edm", "strict"),
    reference: Reference | None = None,
    predict: Predictor | None = None,
    follow: Follow | None = None,
) -> Evaluation:
    """Run suites (of SUITES) over molecules.

    A reference adds novelty and what `geometry` compares; a potential `predict`, which gets float64 graphs without
    neighbour lists, adds strain to `geometry`.

    Raises:
        ValueError: no molecules, an unknown suite, `geometry` without anything to compare with, `posebusters` where it
            is not installed, or elements that the potential does not know.
        OSError: bonds cannot be perceived on this machine.
    """
    _check(molecules, suites, reference, predict)
    follow = follow or _quietly
    perceived, theirs = [Perceived()] * len(molecules), list[Perceived]()
    if set(suites) - {"edm"}:
        perceived = list(follow(perceive(molecules), len(molecules), "bonds"))
        if reference is not None and reference.molecules:
            theirs = list(follow(perceive(reference.molecules), len(reference.molecules), "bonds of the reference"))
    found: dict[str, SuiteResult] = {}
    if "edm" in suites:
        found["edm"] = edm(molecules)
    if "strict" in suites:
        found["strict"] = strict(molecules, perceived, None if reference is None else _smiles(reference, theirs))
    if "geometry" in suites:
        compared = (reference.molecules, theirs) if reference is not None and reference.molecules else None
        relaxed = None if predict is None else _relaxed(molecules, perceived, predict, follow)
        found["geometry"] = geometry(molecules, perceived, compared, relaxed)
    if "posebusters" in suites:
        busted = list(follow(bust(molecules, perceived), len(molecules), "posebusters"))
        found["posebusters"] = posebusters(perceived, busted)
    return Evaluation(found, len(molecules), tuple(each.smiles for each in perceived), reference)


def _check(
    molecules: Sequence[ase.Atoms], suites: Sequence[str], reference: Reference | None, predict: Predictor | None
) -> None:
    if not molecules:
        raise ValueError("there are no molecules to evaluate")
    unknown = sorted(set(suites) - set(SUITES))
    if unknown:
        raise ValueError(f"unknown suite {unknown[0]!r}; choose among {', '.join(SUITES)}")
    if "geometry" in suites and predict is None and (reference is None or not reference.molecules):
        raise ValueError("the suite geometry needs molecules to compare with, or a potential that relaxes; give either")
    if "posebusters" in suites:
        check_installed()


def _quietly(items: Iterable[Item], total: int, label: str) -> Iterator[Item]:
    yield from items


def _smiles(reference: Reference, perceived: Sequence[Perceived]) -> frozenset[str]:
    """Those of its valid molecules, where it has molecules."""
    pairs = zip(reference.molecules, perceived, strict=True)
    return reference.smiles | {found.smiles for atoms, found in pairs if not invalid(atoms.numbers, found)}


def _relaxed(
    molecules: Sequence[ase.Atoms], perceived: Sequence[Perceived], predict: Predictor, follow: Follow
) -> list[RelaxedMolecule]:
    """Of the molecules that are valid and one piece: of others, strain means nothing."""
    pairs = enumerate(zip(molecules, perceived, strict=True))
    good = [i for i, (atoms, found) in pairs if found.fragments == 1 and not invalid(atoms.numbers, found)]
    done = follow(relax_molecules([molecules[i] for i in good], predict), len(good), "relax")
    return [dataclasses.replace(one, index=good[one.index]) for one in done]
