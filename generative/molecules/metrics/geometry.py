"""Suite `geometry`: distances of bond lengths, angles and torsions from those of a reference, and strain.

The distance between two distributions of a number is the Wasserstein-1 distance, in the unit of the number,

    W = integral |F(x) - G(x)| dx,    F, G cumulative distributions.

It is computed for every type of bond (C=O), angle (H-C=O) and torsion (H-C-C=O) that is frequent in the reference; a
metric is the mean over the types that both have, weighted by their frequencies in the reference. Torsions count without
their sign, from 0 to 180 degrees, so that mirror images are the same. Only molecules whose bonds are perceived count.

Strain is the energy that relaxing takes off a molecule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import ase
import numpy as np
from ase.data import chemical_symbols

from atomsml.generative.core.metrics import (
    NORMAL_QUANTILE,
    Metric,
    SuiteResult,
    bootstrap,
    fraction,
    quantile,
)
from atomsml.generative.molecules.metrics.perception import Perceived
from atomsml.generative.molecules.relaxation import RelaxedMolecule

VERSION = "geometry-1"
MIN_COUNT = 100  # occurrences in the reference that make a type frequent
STRAIGHT = 175.0  # degrees: a torsion along an angle that is wider says nothing
RESAMPLES = 100  # of the bootstrap of a distance
UNITS = {"bond_length": "A", "angle": "degree", "torsion": "degree"}
_SYMBOLS = " -=#:"  # of bonds by order; 4 is aromatic


@dataclass(frozen=True)
class Internals:
    """Bond lengths, or angles, or torsions of some molecules."""

    types: np.ndarray  # (values,) which elements and bonds they are made of, coded
    values: np.ndarray  # (values,) A or degrees
    molecule: np.ndarray  # (values,) the molecule each is of


def geometry(
    molecules: Sequence[ase.Atoms],
    perceived: Sequence[Perceived],
    reference: tuple[Sequence[ase.Atoms], Sequence[Perceived]] | None = None,
    relaxed: Sequence[RelaxedMolecule] | None = None,
) -> SuiteResult:
    """Compare molecules with a reference and what was perceived of it, and with themselves once relaxed.

    `relaxed` holds some of the molecules; strain is that of those which converged.
    """
    metrics: dict[str, Metric] = {}
    types: dict[str, Metric] = {}
    if reference is not None:
        ours, theirs = internals(molecules, perceived), internals(*reference)
        for name, unit in UNITS.items():
            mean, each = _distances(ours[name], theirs[name], len(molecules), unit)
            metrics[f"{name}_distance"] = mean
            types |= {f"{name} {key}": metric for key, metric in each.items()}
    failures, strain = [found.reason for found in perceived], np.full(len(molecules), np.nan)
    for one in relaxed or ():
        strain[one.index] = one.strain
        reason = "" if one.converged else "did not relax"
        failures[one.index] = failures[one.index] or reason or ("" if one.bonds_kept else "bonds changed")
    if relaxed is not None:
        metrics |= _strain(relaxed)
    return SuiteResult(
        version=VERSION,
        thresholds={"occurrences that make a type frequent": MIN_COUNT, "straight above degrees": STRAIGHT},
        metrics=metrics,
        failures=tuple(failures),
        columns={} if relaxed is None else {"strain_kcal_mol": tuple(strain.tolist())},
        types=types,
    )


def _strain(relaxed: Sequence[RelaxedMolecule]) -> dict[str, Metric]:
    strain = np.array([one.strain for one in relaxed if one.converged])
    return {
        "converged": fraction(len(strain), len(relaxed)),
        "bonds_kept": fraction(sum(one.converged and one.bonds_kept for one in relaxed), len(relaxed)),
        "strain_median": quantile(strain, 0.5, "kcal/mol"),
        "strain_90_percent": quantile(strain, 0.9, "kcal/mol"),
    }


def internals(molecules: Sequence[ase.Atoms], perceived: Sequence[Perceived]) -> dict[str, Internals]:
    """Under the names of UNITS, those of all molecules whose bonds are perceived."""
    found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {name: [] for name in UNITS}
    for atoms, about in zip(molecules, perceived, strict=True):
        bonds, angles, torsions = _paths(len(atoms), about.bonds)
        measured = (_lengths, _angles, _torsions)
        for name, paths, measure in zip(UNITS, (bonds, angles, torsions), measured, strict=True):
            corners = np.moveaxis(atoms.positions[paths[:, ::2]], 1, 0)  # (corners, paths, 3)
            found[name].append((_codes(atoms.numbers, paths), measure(corners)))
    return {name: _joined(rows) for name, rows in found.items()}


def _joined(rows: list[tuple[np.ndarray, np.ndarray]]) -> Internals:
    """From types and values of each molecule; without values that are NaN."""
    owner = np.repeat(np.arange(len(rows)), [len(values) for _, values in rows])
    types = np.concatenate([np.zeros(0, np.int64), *(types for types, _ in rows)])
    values = np.concatenate([np.zeros(0), *(values for _, values in rows)])
    known = ~np.isnan(values)
    return Internals(types[known], values[known], owner[known])


def _paths(atoms: int, bonds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Chains of 2, 3 and 4 atoms, each once: columns atom, bond order, atom, bond order, ..."""
    there = bonds[:, [0, 2, 1]]  # atom, order, atom
    both = np.concatenate([there, there[:, ::-1]])
    angles = _continued(both, both)
    angles = angles[angles[:, 0] != angles[:, 4]]  # both directions of each
    torsions = _continued(angles, angles, overlap=3)
    torsions = torsions[torsions[:, 0] != torsions[:, 6]]  # not around a ring of three
    return there, angles[angles[:, 0] < angles[:, 4]], torsions[torsions[:, 2] < torsions[:, 4]]


def _continued(first: np.ndarray, second: np.ndarray, overlap: int = 1) -> np.ndarray:
    """All paths of `first` that go on as one of `second`, whose first columns are the last of theirs."""
    same = (first[:, None, -overlap:] == second[None, :, :overlap]).all(axis=-1)
    i, j = np.nonzero(same)
    return np.concatenate([first[i], second[j, overlap:]], axis=1)


def _lengths(corners: np.ndarray) -> np.ndarray:
    return np.linalg.norm(corners[0] - corners[1], axis=1)


def _angles(corners: np.ndarray) -> np.ndarray:
    a, b = corners[0] - corners[1], corners[2] - corners[1]
    return np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b), axis=1), (a * b).sum(axis=1)))


def _torsions(corners: np.ndarray) -> np.ndarray:
    """The angle between the planes on both sides of the middle bond, without sign; NaN along a straight chain."""
    middle = corners[2] - corners[1]
    straight = np.maximum(_angles(corners[:3]), _angles(corners[1:])) > STRAIGHT
    a, b = np.cross(corners[1] - corners[0], middle), np.cross(middle, corners[3] - corners[2])
    angle = np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b), axis=1), (a * b).sum(axis=1)))
    return np.where(straight, np.nan, angle)


def _codes(numbers: np.ndarray, paths: np.ndarray) -> np.ndarray:
    """(paths,) one number for the elements and orders along each path, the same in both directions."""
    digits = paths.copy()
    digits[:, ::2] = numbers[paths[:, ::2]]
    weights = 128 ** np.arange(paths.shape[1], dtype=np.int64)
    return np.minimum(digits @ weights, digits[:, ::-1] @ weights)


def _name(code: int) -> str:
    """The type of a code, as H-C=O."""
    name, is_bond = "", False
    while code:
        code, digit = divmod(code, 128)
        name += _SYMBOLS[digit] if is_bond else chemical_symbols[digit]
        is_bond = not is_bond
    return name


def _distances(ours: Internals, theirs: Internals, molecules: int, unit: str) -> tuple[Metric, dict[str, Metric]]:
    """The weighted mean over types, and that of each type, most frequent first; NaN where we have none of it."""
    codes, counts = np.unique(theirs.types, return_counts=True)
    frequent = np.argsort(-counts, kind="stable")[: int((counts >= MIN_COUNT).sum())]
    each, found = {}, []
    for code, count in zip(codes[frequent].tolist(), counts[frequent].tolist(), strict=True):
        mine = ours.types == code
        owner, distance = ours.molecule[mine], Distance(ours.values[mine], theirs.values[theirs.types == code])
        draws = bootstrap(partial(distance.resampled, owner), molecules, RESAMPLES) if mine.any() else np.zeros(0)
        each[_name(code)] = _around(distance(np.ones(len(owner))), draws, len(np.unique(owner)), unit)
        if mine.any():
            found.append((each[_name(code)].value, count, draws))
    if not found:
        return Metric(np.nan, np.nan, np.nan, 0, unit), each
    values, weights, drawn = zip(*found, strict=True)
    # a type that a draw has none of is left out there
    means = np.ma.average(np.ma.masked_invalid(np.stack(drawn)), weights=weights, axis=0)
    return _around(float(np.average(values, weights=weights)), means, len(np.unique(ours.molecule)), unit), each


def _around(value: float, draws: np.ndarray, of: int, unit: str) -> Metric:
    """Within 1.96 standard deviations of the bootstrap.

    Its percentiles would lie too high: drawing again adds noise, and noise is a distance.
    """
    if of == 0:
        return Metric(np.nan, np.nan, np.nan, 0, unit)
    spread = NORMAL_QUANTILE * float(np.nanstd(draws))
    return Metric(value, max(value - spread, 0.0), value + spread, of, unit)


class Distance:
    """Wasserstein-1 distance of weighted values to reference values, sorted once for many weights."""

    def __init__(self, values: np.ndarray, reference: np.ndarray) -> None:
        everything = np.concatenate([values, reference])
        order = np.argsort(everything, kind="stable")
        self._widths = np.diff(everything[order])
        ours = order < len(values)
        self._rows = order[ours]  # our values, ascending
        self._below = np.cumsum(ours)[:-1]  # how many of them lie at or below the left end of each interval
        self._reference = np.cumsum(~ours)[:-1] / len(reference)

    def __call__(self, weights: np.ndarray) -> float:
        """Of values that count `weights` times; NaN if none of them does."""
        total = np.concatenate([[0.0], np.cumsum(weights[self._rows])])
        if total[-1] == 0:
            return float("nan")
        return float(np.abs(total[self._below] / total[-1] - self._reference) @ self._widths)

    def resampled(self, owner: np.ndarray, times: np.ndarray) -> float:
        """Where molecules, which `owner` says of each value, were drawn so many times."""
        return self(times[owner])
