"""evaluate_molecules: run suites over generated molecules, and say what they were compared with."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import ase
import numpy as np

from atomsml.dataset.content import GRID, SHIFT
from atomsml.generative.core.metrics import Follow, SuiteResult, quietly
from atomsml.generative.molecules.metrics.composition import Profile, composition, profile
from atomsml.generative.molecules.metrics.edm import edm
from atomsml.generative.molecules.metrics.geometry import geometry
from atomsml.generative.molecules.metrics.perception import Perceived, perceive, perceived_mol
from atomsml.generative.molecules.metrics.posebusters import bust, check_installed, posebusters
from atomsml.generative.molecules.metrics.strict import invalid, strict
from atomsml.generative.molecules.relaxation import RelaxedMolecule

SUITES = ("edm", "strict", "composition", "geometry", "posebusters")


class Relax(Protocol):
    """Relaxes copies of molecules, each yielded when it is done, in any order."""

    def __call__(self, molecules: Sequence[ase.Atoms]) -> Iterator[RelaxedMolecule]: ...


@dataclass(frozen=True)
class Reference:
    """What molecules are compared with: other molecules; SMILES alone, without geometry; or only a profile of them."""

    name: str
    molecules: Sequence[ase.Atoms] = ()
    smiles: frozenset[str] = frozenset()  # as perception writes them; without molecules only
    profile: Profile | None = None  # without molecules and SMILES only

    @property
    def sha256(self) -> str:
        """Of numbers and positions to 1e-4 A in order, or of the sorted SMILES, in whatever file they came."""
        digest = hashlib.sha256("\n".join(sorted(self.smiles)).encode())
        if self.profile is not None:
            digest.update(json.dumps(self.profile.to_json()).encode())
        for atoms in self.molecules:
            digest.update(atoms.numbers.astype("<i8").tobytes())
            digest.update(np.floor(atoms.positions / GRID + SHIFT).astype("<i8").tobytes())
        return digest.hexdigest()

    def to_json(self) -> dict[str, Any]:
        profiled = 0 if self.profile is None else self.profile.molecules
        molecules = len(self.molecules) or len(self.smiles) or profiled
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
    relax: Relax | None = None,
    follow: Follow | None = None,
) -> Evaluation:
    """Run suites (of SUITES) over molecules.

    A reference adds novelty and what `composition` and `geometry` compare. What relaxes (`relax_gfn2`, or a
    `functools.partial` of `relax_molecules`) adds strain to `geometry`.

    Raises:
        ValueError: no molecules, an unknown suite, `geometry` without anything to compare with, `posebusters` where it
            is not installed, or elements that the potential does not know.
        OSError: bonds cannot be perceived on this machine.
    """
    _check(molecules, suites, reference, relax)
    follow = follow or quietly
    perceived, theirs = [Perceived()] * len(molecules), list[Perceived]()
    if set(suites) - {"edm"}:
        perceived = list(follow(perceive(molecules), len(molecules), "bonds"))
        if reference is not None and reference.molecules:
            theirs = list(follow(perceive(reference.molecules), len(reference.molecules), "bonds of the reference"))
    found: dict[str, SuiteResult] = {}
    if "edm" in suites:
        found["edm"] = edm(molecules, None if reference is None else reference.molecules or None)
    if "strict" in suites:
        found["strict"] = strict(molecules, perceived, None if reference is None else _smiles(reference, theirs))
    if "composition" in suites:
        mols = [perceived_mol(molecules[i], perceived[i]) for i in _good(molecules, perceived)]
        found["composition"] = composition(mols, None if reference is None else profile_of(reference, theirs))
    if "geometry" in suites:
        compared = (reference.molecules, theirs) if reference is not None and reference.molecules else None
        relaxed = None if relax is None else _relaxed(molecules, perceived, relax, follow)
        found["geometry"] = geometry(molecules, perceived, compared, relaxed)
    if "posebusters" in suites:
        busted = list(follow(bust(molecules, perceived), len(molecules), "posebusters"))
        found["posebusters"] = posebusters(perceived, busted)
    return Evaluation(found, len(molecules), tuple(each.smiles for each in perceived), reference)


def _check(
    molecules: Sequence[ase.Atoms], suites: Sequence[str], reference: Reference | None, relax: Relax | None
) -> None:
    if not molecules:
        raise ValueError("there are no molecules to evaluate")
    unknown = sorted(set(suites) - set(SUITES))
    if unknown:
        raise ValueError(f"unknown suite {unknown[0]!r}; choose among {', '.join(SUITES)}")
    if "geometry" in suites and relax is None and (reference is None or not reference.molecules):
        raise ValueError("the suite geometry needs molecules to compare with, or a potential that relaxes; give either")
    if "posebusters" in suites:
        check_installed()


def _smiles(reference: Reference, perceived: Sequence[Perceived]) -> frozenset[str] | None:
    """Those of its valid molecules, where it has molecules; None where it has not even SMILES."""
    if reference.profile is not None:
        return None
    pairs = zip(reference.molecules, perceived, strict=True)
    return reference.smiles | {found.smiles for atoms, found in pairs if not invalid(atoms.numbers, found)}


def profile_of(reference: Reference, perceived: Sequence[Perceived]) -> Profile:
    """What `composition` compares with: its valid connected molecules, or what its SMILES say, each once."""
    from rdkit import Chem

    if reference.profile is not None:
        return reference.profile
    good = _good(reference.molecules, perceived)
    named = [Chem.MolFromSmiles(smiles) for smiles in sorted(reference.smiles)]
    return profile([perceived_mol(reference.molecules[i], perceived[i]) for i in good] + named)


def _good(molecules: Sequence[ase.Atoms], perceived: Sequence[Perceived]) -> list[int]:
    """The places of the molecules that are valid and one piece."""
    pairs = enumerate(zip(molecules, perceived, strict=True))
    return [i for i, (atoms, found) in pairs if found.fragments == 1 and not invalid(atoms.numbers, found)]


def _relaxed(
    molecules: Sequence[ase.Atoms], perceived: Sequence[Perceived], relax: Relax, follow: Follow
) -> list[RelaxedMolecule]:
    """Of the molecules that are valid and one piece: of others, strain means nothing."""
    good = _good(molecules, perceived)
    done = follow(relax([molecules[i] for i in good]), len(good), "relax")
    return [dataclasses.replace(one, index=good[one.index]) for one in done]
