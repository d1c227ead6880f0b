"""Labels that are a number times what a model predicts: another unit, the other sign, not divided by the volume.

For each kind of label the factor a of label = a x prediction is the one of least sum |label - a x prediction|: the
median of the ratios weighted with |prediction|, which a few wrong labels do not move. Of energies what one constant for
each element explains is taken off first, from both sides.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from ase import units
from numpy.typing import NDArray

from atomsml.training.evaluation.metrics import Collected

Array = NDArray[np.float64]
EXPLAINED = 0.3  # median |label - a x prediction| / median |label| below which a factor that has a name is believed
CERTAIN = 0.1  # the same for a factor without one
CLOSE = 1.1  # factors within 10 % are the same; names are further apart
ABOUT_ONE = 1.25
LEAST_LABELS = 8
# eV, eV/A or eV/A^3 in one of the unit
KCAL, KJ = units.kcal / units.mol, units.kJ / units.mol
ENERGY_UNITS = {"hartree": units.Hartree, "rydberg": units.Rydberg, "kcal/mol": KCAL, "kJ/mol": KJ, "meV": 1e-3}
FORCE_UNITS = {
    "hartree/bohr": units.Hartree / units.Bohr,
    "rydberg/bohr": units.Rydberg / units.Bohr,
    "eV/bohr": 1 / units.Bohr,
    "hartree/A": units.Hartree,
    "kcal/mol/A": KCAL,
    "kJ/mol/A": KJ,
    "kJ/mol/nm": KJ / 10,
    "meV/A": 1e-3,
}
STRESS_UNITS = {
    "GPa": units.GPa,
    "kbar": units.GPa / 10,
    "bar": units.bar,
    "hartree/bohr^3": units.Hartree / units.Bohr**3,
    "meV/A^3": 1e-3,
}


@dataclass(frozen=True)
class Factor:
    """What labels are, measured by a model."""

    label: str  # energy, forces or stress
    factor: float  # times the prediction, or times `what`
    message: str


@dataclass(frozen=True)
class _Fit:
    """label = factor x `what`, where `what` is the prediction itself ("") or the prediction times a size."""

    what: str
    factor: float
    left: float  # median |label - factor x what| / median |label|


def label_factors(collected: Collected, volume: Array) -> list[Factor]:
    """A factor for each kind of label that is not the model's own but a multiple of it.

    Args:
        volume: (structures,) A^3; NaN where there is none.
    """
    counts = collected.num_atoms
    forces = [_fit("", collected.forces_label, collected.forces_predicted)]
    scales = {"": np.ones(len(counts)), "the volume": volume, "the volume per atom": volume / counts}
    scales["the inverse of the volume"] = 1 / volume
    stress = [
        _fit(what, collected.stress_label, collected.stress_predicted * scale[:, None, None])
        for what, scale in scales.items()
    ]
    found = {
        "energy": (_energy_fits(collected), ENERGY_UNITS),
        "forces": (forces, FORCE_UNITS),
        "stress": (stress, STRESS_UNITS),
    }
    named = (_named(label, [fit for fit in fits if fit is not None], names) for label, (fits, names) in found.items())
    return [factor for factor in named if factor is not None]


def _energy_fits(collected: Collected) -> list[_Fit | None]:
    """Of energies of structures, and of what would be energies per atom."""
    atoms = collected.num_atoms
    label, predicted = collected.energy_label, collected.energy_predicted
    known = np.isfinite(label) & np.isfinite(predicted)
    elements, element_of = np.unique(collected.numbers, return_inverse=True)
    fractions = np.zeros((len(atoms), len(elements)))
    np.add.at(fractions, (np.repeat(np.arange(len(atoms)), atoms), element_of), 1.0)
    fractions = (fractions / atoms[:, None])[known]
    if known.sum() < np.linalg.matrix_rank(fractions) + LEAST_LABELS:
        return []

    def beyond_elements(energies: Array) -> Array:
        rest: Array = energies - fractions @ np.linalg.lstsq(fractions, energies, rcond=1e-10)[0]
        return rest

    x = beyond_elements(predicted[known])
    per_atom = label[known] * atoms[known]  # what the label would be, if the number in the file were per atom
    return [_fit("", beyond_elements(label[known]), x), _fit("1 / number of atoms", beyond_elements(per_atom), x)]


def _fit(what: str, label: Array, x: Array) -> _Fit | None:
    """None where there are too few labels that are not zero."""
    known = np.isfinite(label) & np.isfinite(x) & (x != 0) & (label != 0)
    y, x = label[known], x[known]
    if len(y) < LEAST_LABELS:
        return None
    ratio, weight = y / x, np.abs(x)
    order = np.argsort(ratio)
    total = np.cumsum(weight[order])
    factor = float(ratio[order[np.searchsorted(total, total[-1] / 2)]])
    return _Fit(what, factor, float(np.median(np.abs(y - factor * x)) / np.median(np.abs(y))))


def _named(label: str, fits: list[_Fit], names: dict[str, float]) -> Factor | None:
    """The first factor that says something, the fit that leaves least first; None where labels are the model's."""
    plain = next((fit for fit in fits if not fit.what), None)
    if plain is not None and plain.left < EXPLAINED and _like(plain.factor, 1.0, ABOUT_ONE):
        return None
    plural = {"energy": "energies are", "forces": "force labels are", "stress": "stress labels are"}[label]
    for fit in sorted(fits, key=lambda fit: fit.left):
        looks = list(_looks_like(fit, names))
        if fit.left < EXPLAINED and looks:
            times = f"{fit.factor:.4g} times {fit.what and fit.what + ' times '}the model's"
            return Factor(label, fit.factor, f"{plural} {times}: {' or '.join(looks)}")
    if plain is not None and plain.left < CERTAIN:
        message = f"{plural} {plain.factor:.4g} times the model's: looks like another unit"
        return Factor(label, plain.factor, message)
    return None


def _looks_like(fit: _Fit, names: dict[str, float]) -> Iterator[str]:
    sign = "" if fit.factor > 0 else " with the other sign"
    size = abs(fit.factor)
    if fit.what:
        if _like(size, 1.0, CLOSE):
            looks = {
                "1 / number of atoms": "per atom, where those of whole structures are wanted",
                "the volume": "a virial, not divided by the volume",
                "the volume per atom": "a virial per atom",
                "the inverse of the volume": "divided by the volume twice",
            }[fit.what]
            turned = fit.factor > 0 if fit.what.startswith("the volume") else fit.factor < 0  # virial = -V stress
            yield looks + (" and with the other sign" if turned else "")
        return
    if _like(fit.factor, -1.0, CLOSE):
        yield "the other sign"
    converted = {f"looks like {name}{sign}": 1 / value for name, value in names.items()}
    twice = {f"converted from {name} although it was in eV already{sign}": value for name, value in names.items()}
    known = {words: value for words, value in (converted | twice).items() if _like(size, value, CLOSE)}
    yield from sorted(known, key=lambda words: abs(math.log(size / known[words])))[:1]


def _like(number: float, other: float, within: float) -> bool:
    return number * other > 0 and abs(math.log(number / other)) < math.log(within)
