"""Energies and stresses that look like another unit, sign, or normalisation."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from atomsml.dataset.dataset import Dataset
from atomsml.dataset.inspection.survey import Survey
from atomsml.dataset.references import fit_compositions
from atomsml.units import GPA

Finding = tuple[str, str, np.ndarray]  # kind, message, rows
NO_ROWS = np.zeros(0, dtype=np.int64)
# what one hartree is in the units in which energies are wrongly left
ENERGY_UNITS = {"hartree": 1.0, "kcal/mol": 627.5095, "kJ/mol": 2625.4996}
# what 1 eV/A^3 is in the units, and with the signs, in which stresses are wrongly left
STRESS_UNITS = {
    "GPa": 1 / GPA,
    "kbar": 10 / GPA,
    "bar": 1e4 / GPA,
    "eV/A^3 with the sign of a pressure": -1.0,
    "GPa with the sign of a pressure": -1 / GPA,
    "kbar with the sign of a pressure": -10 / GPA,
    "bar with the sign of a pressure": -1e4 / GPA,
}
CLOSE = 1.2  # two factors within 20 % count as the same
LARGE_STRESS = 1.0  # eV/A^3, 160 GPa
LARGEST_STRAIN = 0.1
ENOUGH_PAIRS = 5


def check_energies(dataset: Dataset) -> Iterator[Finding]:
    """Energies per atom instead of per structure, and energies in units that are easily recognised."""
    labelled = ~np.isnan(dataset.energy)
    sizes = dataset.num_atoms[labelled]
    if len(sizes) < 2:
        return
    # a sum of atoms grows with the structure, a mean does not; sizes must differ to tell
    if sizes.max() >= 1.5 * sizes.min():
        _, total = fit_compositions(dataset, dataset.elements, per_atom=False)
        _, mean = fit_compositions(dataset, dataset.elements, per_atom=True)
        if total > 1e-3 and mean < 0.5 * total:
            message = (
                f"energies look like energies per atom: a mean over atoms fits them to {100 * mean:.2g} %, a sum to "
                f"{100 * total:.2g} %; they must be those of whole structures"
            )
            yield "energy per atom", message, NO_ROWS
    ratios = dataset.energy / np.concatenate([block @ _all_electron() for _, block in dataset.compositions()])
    low, high = np.nanquantile(ratios, [0.05, 0.95])
    for unit, factor in ENERGY_UNITS.items():
        if 0.95 * factor < low and high < 1.05 * factor:
            yield "energy unit", f"energies look like all-electron energies in {unit}; they must be in eV", NO_ROWS


def _all_electron() -> np.ndarray:
    """(119,) total energies of neutral atoms in hartree, right to a few per cent.

    E(Z) = -0.768745 Z^(7/3) + Z^2 / 2 - 0.269900 Z^(5/3), the statistical atom with the corrections of Scott and of
    Schwinger, Phys. Rev. A 24, 2353 (1981).
    """
    z = np.arange(119.0)
    return -0.768745 * z ** (7 / 3) + z**2 / 2 - 0.269900 * z ** (5 / 3)


def check_stress(dataset: Dataset, survey: Survey) -> Iterator[Finding]:
    """Stress of open systems, stress that is not symmetric or exactly zero, and other units or signs."""
    labelled = ~np.isnan(survey.stress).any(axis=(1, 2))
    if not labelled.any():
        return
    size = np.abs(survey.stress).max(axis=(1, 2))
    skew = np.abs(survey.stress - survey.stress.transpose(0, 2, 1)).max(axis=(1, 2))
    conditions = {
        "stress without a cell": (
            labelled & np.isnan(survey.volume),
            "a stress, but not periodic along all axes",
        ),
        "asymmetric stress": (skew > 1e-6 + 0.01 * size, "a stress that is not symmetric"),
        "zero stress": (size == 0, "a stress of exactly zero, which often means that it was not computed"),
    }
    for kind, (where, what) in conditions.items():
        rows = np.flatnonzero(where)
        if len(rows):
            yield kind, f"{len(rows)} of {len(dataset)} structures: {what}", rows
    pairs = strained_pairs(dataset, survey, labelled & (size > 0))
    if len(pairs) >= ENOUGH_PAIRS:
        yield from _compare_with_energies(*pairs.T)
    elif np.median(size[labelled]) > LARGE_STRESS:
        median = np.median(size[labelled])
        message = (
            f"the largest component of a stress is {median:.3g} eV/A^3 = {median / GPA:.0f} GPa in the median: looks "
            "like GPa, kbar or a virial"
        )
        yield "stress unit", message, NO_ROWS


def strained_pairs(dataset: Dataset, survey: Survey, use: np.ndarray) -> np.ndarray:
    """(pairs, 3) of structures that differ by a strain alone: difference of energies, the same from stress, and volume.

    E_2 - E_1 = V sum_ij stress_ij strain_ij, with the means of volume and stress, is right to third order.
    """
    rows = np.flatnonzero(use & ~np.isnan(survey.volume) & ~np.isnan(dataset.energy))
    rows = rows[np.lexsort((survey.volume[rows], survey.family[rows]))]
    first, second = rows[:-1], rows[1:]
    same = survey.family[first] == survey.family[second]
    first, second = first[same], second[same]
    turned = np.abs(np.linalg.solve(survey.cell[first], survey.cell[second]) - np.eye(3)).max(axis=(1, 2)) > 0.5
    first, second = first[~turned], second[~turned]
    mean = (survey.cell[first] + survey.cell[second]) / 2
    deformation = np.linalg.solve(mean, survey.cell[second] - survey.cell[first])
    strain = (deformation + deformation.transpose(0, 2, 1)) / 2
    volume = (survey.volume[first] + survey.volume[second]) / 2
    stress = (survey.stress[first] + survey.stress[second]) / 2
    energy = dataset.energy
    difference, expected = energy[second] - energy[first], volume * np.einsum("nij,nij->n", stress, strain)
    # near the energy minimum, where both ends pull in opposite directions, little is left of large terms
    ends = np.einsum("nij,nij->n", survey.stress[second] - survey.stress[first], strain) * volume
    small = (np.abs(strain).max(axis=(1, 2)) < LARGEST_STRAIN) & (np.abs(ends) < np.abs(expected))
    return np.stack([difference, expected, volume], axis=1)[small & (np.abs(difference) > 1e-3)]


def _compare_with_energies(difference: np.ndarray, expected: np.ndarray, volume: np.ndarray) -> Iterator[Finding]:
    """What the stress must be multiplied with to explain how the energy changes under strain, if pairs agree on it."""
    units = {"": expected / difference, "virial": expected / difference / volume}
    ratio, of_virial = (_agreed(ratios) for ratios in units.values())
    if ratio is not None and not _like(ratio, 1.0):
        looks = [f"looks like {unit}" for unit, factor in STRESS_UNITS.items() if _like(ratio, factor)]
        yield (
            "stress unit",
            f"under strain energies change {1 / ratio:.3g} times as much as the stress says ({len(volume)} pairs): "
            f"{' or '.join(looks) or 'looks like another unit'}",
            NO_ROWS,
        )
    elif ratio is None and of_virial is not None and _like(abs(of_virial), 1.0):
        name = "a virial" if of_virial < 0 else "a virial with the sign of a stress"
        message = f"what is named stress looks like {name}, not divided by the volume ({len(volume)} strained pairs)"
        yield "stress unit", message, NO_ROWS


def _agreed(ratios: np.ndarray) -> float | None:
    """The median, where at least two thirds of the ratios are close to it."""
    median = float(np.median(ratios))
    agree = np.mean([_like(ratio, median) for ratio in ratios])
    return median if agree > 2 / 3 else None


def _like(ratio: float, factor: float) -> bool:
    return 1 / CLOSE < ratio / factor < CLOSE
