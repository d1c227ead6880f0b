"""Rows of a dataset that look wrong. Nothing here is proof: every message says what was seen and what it looks like."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from atomsml.dataset.dataset import Dataset
from atomsml.dataset.inspection.check_units import check_energies, check_stress
from atomsml.dataset.inspection.survey import Survey, survey

EXTREME_FORCE = 50.0  # eV/A
NET_FORCE = 1e-3  # eV/A: less is of no consequence, whatever the printed digits
SAME_ENERGY = 1e-3  # eV/atom: labels of one geometry that differ by more are not the same
SAME_FORCE = 1e-2  # eV/A, root mean square
LOOKED_AT = 400_000  # atoms of a file by which a command warns: two seconds of a survey
STRETCH = 20  # structures in a row, so that strained copies of one another are looked at together
SHOWN_ROWS = 8


@dataclass(frozen=True)
class Suspicion:
    """Something that looks wrong, and the structures that show it, the worst first where there is an order."""

    kind: str
    message: str
    rows: np.ndarray


def check(dataset: Dataset, survey: Survey) -> list[Suspicion]:
    """Everything about a dataset that looks wrong."""
    units = [
        Suspicion(kind, message, rows)
        for kind, message, rows in [*check_energies(dataset), *check_stress(dataset, survey)]
    ]
    return [*_duplicates(dataset, survey), *_forces(dataset, survey), *_contacts(dataset, survey), *units]


def suspicious(dataset: Dataset) -> Iterator[str]:
    """A line for everything that `check` finds in each file of a dataset, before a command uses it.

    A large file is looked at in stretches spread over it, LOOKED_AT atoms in all, and the line says so.
    """
    for source, found in zip(dataset.sources, dataset.found, strict=True):
        yield from (f"{found.path}: {warning}" for warning in found.warnings)
        whole = Dataset([source], [found])
        rows = _spread_out(whole.num_atoms)
        part = whole.subset(rows)
        where = found.path if len(part) == len(whole) else f"{found.path} ({len(part)} of {len(whole)} looked at)"
        for suspicion in check(part, survey(part)):
            first = ", ".join(map(str, rows[suspicion.rows[:SHOWN_ROWS]]))
            more = ", ..." if len(suspicion.rows) > SHOWN_ROWS else ""
            yield f"{where}: {suspicion.kind}: {suspicion.message}" + (f" (rows {first}{more})" if first else "")


def _spread_out(num_atoms: np.ndarray) -> np.ndarray:
    """Rows of evenly spaced stretches that have about LOOKED_AT atoms; all rows where they have no more."""
    structures, atoms = len(num_atoms), int(num_atoms.sum())
    if atoms <= LOOKED_AT or structures <= STRETCH:
        return np.arange(structures)
    stretches = max(1, int(structures * LOOKED_AT / atoms / STRETCH))
    starts = np.linspace(0, structures - STRETCH, stretches).astype(np.int64)
    return np.unique(starts[:, None] + np.arange(STRETCH))


def _duplicates(dataset: Dataset, survey: Survey) -> list[Suspicion]:
    """Geometries that occur more than once, apart from those whose labels differ too."""
    _, first, which, counts = np.unique(dataset.content, return_index=True, return_inverse=True, return_counts=True)
    if counts.max() == 1:
        return []
    energy = dataset.energy / dataset.num_atoms
    differ = (_spread(energy, which) > SAME_ENERGY) | (_spread(np.sqrt(survey.mean_square_force), which) > SAME_FORCE)
    repeated = np.flatnonzero((first[which] != np.arange(len(which))) & ~differ[which])
    found = []
    if len(repeated):
        message = f"{_of(repeated, dataset)}: the geometry and the labels of an earlier one"
        found.append(Suspicion("duplicates", message, repeated))
    if differ.any():
        rows = np.flatnonzero(differ[which])
        message = (
            f"{_of(rows, dataset)}: a geometry that occurs with different labels, {int(differ.sum())} such; energies "
            f"differ by up to {1e3 * np.nanmax(_spread(energy, which)):.3g} meV/atom"
        )
        found.append(Suspicion("duplicates with different labels", message, rows))
    return found


def _spread(values: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Largest difference of the values of each group, NaN left out."""
    low, high = np.full(which.max() + 1, np.inf), np.full(which.max() + 1, -np.inf)
    labelled = ~np.isnan(values)
    np.minimum.at(low, which[labelled], values[labelled])
    np.maximum.at(high, which[labelled], values[labelled])
    return np.where(np.isfinite(low), high - low, 0.0)


def _forces(dataset: Dataset, survey: Survey) -> list[Suspicion]:
    found = []
    net = _worst(survey.net_force, survey.net_force > np.maximum(survey.rounding, NET_FORCE))
    if len(net):
        size = np.sqrt(np.nanmean(survey.mean_square_force))
        message = (
            f"{_of(net, dataset)}: forces that do not sum to zero within their printed digits, but to "
            f"{np.median(survey.net_force[net]):.2g} eV/A in the median and {survey.net_force[net[0]]:.2g} at most; "
            f"forces are {size:.2g} eV/A (root mean square)"
        )
        found.append(Suspicion("net force", message, net))
    extreme = _worst(survey.max_force, survey.max_force > EXTREME_FORCE)
    if len(extreme):
        largest = survey.max_force[extreme[0]]
        message = f"{_of(extreme, dataset)}: a force above {EXTREME_FORCE:g} eV/A, up to {largest:.3g}"
        found.append(Suspicion("extreme forces", message, extreme))
    zero = np.flatnonzero((survey.max_force == 0) & (dataset.num_atoms > 1))
    if len(zero):
        message = f"{_of(zero, dataset)}: all forces exactly zero, which is right for perfect crystals only"
        found.append(Suspicion("zero forces", message, zero))
    incomplete = np.flatnonzero(survey.incomplete_forces)
    if len(incomplete):
        message = f"{_of(incomplete, dataset)}: forces on some atoms or axes only, NaN on the rest"
        found.append(Suspicion("incomplete forces", message, incomplete))
    return found


def _contacts(dataset: Dataset, survey: Survey) -> list[Suspicion]:
    close = _worst(-survey.contact, survey.contact < 0.5)
    if not len(close):
        return []
    message = (
        f"{_of(close, dataset)}: atoms closer than half the sum of their covalent radii, down to "
        f"{survey.contact[close[0]]:.2f} of that sum"
    )
    return [Suspicion("close atoms", message, close)]


def _of(rows: np.ndarray, dataset: Dataset) -> str:
    return f"{len(rows)} of {len(dataset)} structures"


def _worst(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Rows where the condition holds, those of the largest values first."""
    rows = np.flatnonzero(where)
    return rows[np.argsort(-values[rows], kind="stable")]


def shared_geometries(datasets: Sequence[Dataset]) -> list[tuple[int, int, int]]:
    """(i, j, structures of dataset j whose geometry is in dataset i too) for every pair i < j that shares any."""
    contents = [dataset.content for dataset in datasets]
    pairs = [(i, j) for j in range(len(contents)) for i in range(j)]
    counts = [(i, j, int(np.isin(contents[j], contents[i]).sum())) for i, j in pairs]
    return [pair for pair in counts if pair[2]]
