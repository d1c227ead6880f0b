"""Errors of predictions against labels: a table of sums that batches and processes add up, and arrays for plots.

| key | unit | mean over |
|---|---|---|
| energy_mae, energy_rmse | meV/atom | structures; the error of the total energy divided by the number of atoms |
| forces_mae, forces_rmse | meV/A | Cartesian components |
| forces_relative | % | 100 * RMSE / RMS of the label forces, which is MACE's "relative F RMSE %" |
| stress_mae, stress_rmse | meV/A^3 | the nine components |
| charges_mae, charges_rmse | e | atoms |
| dipole_mae, dipole_rmse | e A | Cartesian components |
| dipole_mae_debye | D | the same |
| quadrupole_mae, quadrupole_rmse | e A^2 | the nine components of the traceless part |
| structures, energies, force_components, stresses | | how many were counted |
| charges, dipoles, quadrupoles | | the same, where the model and the labels have any |

A label that is NaN is missing: it is left out and not counted, and a key whose labels are all missing is absent. A
prediction that is NaN is not left out: it makes the error NaN.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from ase.units import Debye
from numpy.typing import NDArray
from torch import Tensor

from atomsml.dataset.columns import atoms_of
from atomsml.graph import AtomicGraph
from atomsml.potential import Predict, Prediction

Table = dict[str, dict[str, float]]  # config type, "all", or element -> the keys above
Name = TypeVar("Name", str, int)
Batches = Iterable[tuple[AtomicGraph, Sequence[str]]]  # labelled graph, and the config type of each of its systems

# columns, after the number of structures
_ENERGY, _FORCES, _STRESS = slice(1, 5), slice(5, 9), slice(9, 13)
_CHARGES, _DIPOLE, _QUADRUPOLE = slice(13, 17), slice(17, 21), slice(21, 25)
_WIDTH = 25
_E_A = 1 / Debye  # D
_COLUMNS = {  # of a printed table: key -> (header, decimals)
    "structures": ("structures", 0),
    "force_components": ("force components", 0),
    "energy_mae": ("E MAE meV/atom", 2),
    "energy_rmse": ("E RMSE meV/atom", 2),
    "forces_mae": ("F MAE meV/A", 2),
    "forces_rmse": ("F RMSE meV/A", 2),
    "forces_relative": ("F RMSE %", 2),
    "stress_mae": ("S MAE meV/A^3", 3),
    "stress_rmse": ("S RMSE meV/A^3", 3),
    "charges_mae": ("q MAE e", 4),
    "charges_rmse": ("q RMSE e", 4),
    "dipole_mae": ("dipole MAE e A", 4),
    "dipole_rmse": ("dipole RMSE e A", 4),
    "dipole_mae_debye": ("dipole MAE D", 4),
    "quadrupole_mae": ("quadrupole MAE e A^2", 4),
    "quadrupole_rmse": ("quadrupole RMSE e A^2", 4),
}


class ErrorTable:
    """Sums of errors for each config type and each element, from which `table` and `by_element` make means.

    Config types and elements (atomic numbers) are fixed from the start, so that the sums of several processes mean the
    same: `torch.distributed.all_reduce(errors.sums())` makes `errors` that of all of them.

    Raises:
        ValueError: several config types of which one is called "all".
    """

    def __init__(self, config_types: Sequence[str], elements: Sequence[int]) -> None:
        self.config_types, self.elements = tuple(config_types), tuple(elements)
        if len(self.config_types) > 1 and "all" in self.config_types:
            raise ValueError('a config type is called "all", which stands for all of them; rename it in the data')
        types, rows = len(self.config_types), len(self.elements)
        self._sums = torch.zeros(types * _WIDTH + rows * 4, dtype=torch.float64)
        self._by_type = self._sums[: types * _WIDTH].view(types, _WIDTH)
        self._by_element = self._sums[types * _WIDTH :].view(rows, 4)
        self._row_of_type = {name: row for row, name in enumerate(self.config_types)}
        self._row_of_element = {number: row for row, number in enumerate(self.elements)}

    def add(self, prediction: Prediction, graph: AtomicGraph, config_types: Sequence[str]) -> None:
        """Count a batch; `graph` carries the labels, `config_types` has one entry for each of its systems.

        Raises:
            ValueError: a config type or an element that the table was not made for.
        """
        rows = _rows(self._row_of_type, config_types, "config type")
        species = _rows(self._row_of_element, graph.numbers.tolist(), "element")
        atoms = graph.atoms_per_system.cpu()
        energy, stress = graph.system_data.get("energy"), graph.system_data.get("stress")
        if stress is not None:  # an open system has no volume, so that nothing can be compared with its label
            stress = stress.masked_fill(~graph.pbc.any(dim=1)[:, None, None], torch.nan)
        of_atoms = _sums_of_rows(prediction.forces, graph.atom_data.get("forces"), graph.num_atoms)
        sums = torch.zeros(graph.num_systems, _WIDTH, dtype=torch.float64)
        sums[:, 0] = 1
        sums[:, _ENERGY] = _sums_of_rows(_per_atom(prediction.energy, atoms), _per_atom(energy, atoms), len(atoms))
        sums[:, _FORCES].index_add_(0, graph.batch.cpu(), of_atoms)
        sums[:, _STRESS] = _sums_of_rows(prediction.stress, stress, len(atoms))
        _add_multipoles(sums, prediction, graph)
        self._by_type.index_add_(0, rows, sums)
        self._by_element.index_add_(0, species, of_atoms)

    def sums(self) -> Tensor:
        """All sums, flat, float64, on the CPU: the storage itself and not a copy."""
        return self._sums

    def merge(self, other: ErrorTable) -> None:
        """Add the sums of a table for the same config types and elements."""
        if (self.config_types, self.elements) != (other.config_types, other.elements):
            raise ValueError("only error tables for the same config types and elements can be merged")
        self._sums += other.sums()

    def table(self) -> Table:
        """Errors of each config type and of "all"; of "all" only where there is a single type."""
        rows = dict(zip(self.config_types, self._by_type, strict=True)) if len(self.config_types) > 1 else {}
        return {name: _errors_of(sums) for name, sums in {**rows, "all": self._by_type.sum(dim=0)}.items()}

    def by_element(self) -> Table:
        """Force errors of each element, by its symbol; elements without a label are left out."""
        from ase.data import chemical_symbols

        rows = zip(self.elements, self._by_element, strict=True)
        return {chemical_symbols[z]: _force_errors(sums) for z, sums in rows if sums[0] > 0}


def _rows(row_of: dict[Name, int], names: Sequence[Name], kind: str) -> Tensor:
    unknown = [name for name in names if name not in row_of]
    if unknown:
        raise ValueError(f"this error table was made without the {kind} {unknown[0]!r}; name it when making the table")
    return torch.tensor([row_of[name] for name in names], dtype=torch.int64)


def _per_atom(energy: Tensor | None, atoms: Tensor) -> Tensor | None:
    return None if energy is None else (energy.detach().cpu().double() / atoms)[:, None]


def _add_multipoles(sums: Tensor, prediction: Prediction, graph: AtomicGraph) -> None:
    """Those that the prediction and the labels have; a periodic system has no dipole, so that no label counts."""
    charges, label = prediction.atom_data.get("charges"), graph.atom_data.get("charges")
    if charges is not None and label is not None:
        of_atoms = _sums_of_rows(charges[:, None], label[:, None], graph.num_atoms)
        sums[:, _CHARGES].index_add_(0, graph.batch.cpu(), of_atoms)
    for name, columns in (("dipole", _DIPOLE), ("quadrupole", _QUADRUPOLE)):
        predicted, label = prediction.system_data.get(name), graph.system_data.get(name)
        if label is not None:
            label = label.flatten(1).masked_fill(graph.pbc.any(dim=1)[:, None], torch.nan)
        sums[:, columns] = _sums_of_rows(predicted, label, graph.num_systems)


def _sums_of_rows(predicted: Tensor | None, label: Tensor | None, rows: int) -> Tensor:
    """(rows, 4): number of labels, and sums of |error|, error^2 and label^2, over the components of each row."""
    if predicted is None or label is None:
        return torch.zeros(rows, 4, dtype=torch.float64)
    predicted, label = (x.detach().cpu().double().flatten(1) for x in (predicted, label))
    known = ~label.isnan()
    error, label = torch.where(known, predicted - label, 0.0), torch.where(known, label, 0.0)
    sums = (known.double(), error.abs(), error.square(), label.square())
    return torch.stack([x.sum(dim=1) for x in sums], dim=1)


def _errors_of(sums: Tensor) -> dict[str, float]:
    energies, stresses = int(sums[_ENERGY][0]), int(sums[_STRESS][0]) // 9
    return {
        "structures": int(sums[0]),
        "energies": energies,
        **_mean_errors("energy", sums[_ENERGY]),
        **_force_errors(sums[_FORCES]),
        "stresses": stresses,
        **_mean_errors("stress", sums[_STRESS]),
        **_multipole_errors(sums),
    }


def _multipole_errors(sums: Tensor) -> dict[str, float]:
    """In e, e A and e A^2; nothing of what there is none."""
    found: dict[str, float] = {}
    for name, counted, columns, size in (
        ("charges", "charges", _CHARGES, 1),
        ("dipole", "dipoles", _DIPOLE, 3),
        ("quadrupole", "quadrupoles", _QUADRUPOLE, 9),
    ):
        if sums[columns][0] > 0:
            found |= {counted: int(sums[columns][0]) // size, **_mean_errors(name, sums[columns], thousandths=False)}
    if "dipole_mae" in found:
        found["dipole_mae_debye"] = found["dipole_mae"] * _E_A
    return found


def _force_errors(sums: Tensor) -> dict[str, float]:
    errors = {"force_components": int(sums[0]), **_mean_errors("forces", sums)}
    if sums[3] > 0:  # relative to something
        errors["forces_relative"] = 100 * math.sqrt(sums[2] / sums[3])
    return errors


def _mean_errors(name: str, sums: Tensor, thousandths: bool = True) -> dict[str, float]:
    """MAE and RMSE in the unit of the sums, or in thousandths of it."""
    count, absolute, square, _ = sums.tolist()
    if count == 0:
        return {}
    unit = 1000 if thousandths else 1
    return {f"{name}_mae": unit * absolute / count, f"{name}_rmse": unit * math.sqrt(square / count)}


def format_table(table: Table, first: str = "config type") -> tuple[list[str], list[list[str]]]:
    """Header and rows of text for `table` or `by_element`; `first` is the header of the names.

    Only columns of which some row has a number; a dash where a row has none.
    """
    keys = [key for key in _COLUMNS if any(key in errors for errors in table.values())]
    if "structures" in keys:
        keys.remove("force_components")  # says nothing beside the number of structures
    rows = [
        [name or "(none)", *(f"{errors[key]:.{_COLUMNS[key][1]}f}" if key in errors else "-" for key in keys)]
        for name, errors in table.items()
    ]
    return [first, *(_COLUMNS[key][0] for key in keys)], rows


def measure(predict: Predict, batches: Batches, config_types: Sequence[str], elements: Sequence[int]) -> ErrorTable:
    """Errors of `predict` over batches of labelled graphs."""
    errors = ErrorTable(config_types, elements)
    for graph, types in batches:
        errors.add(predict(graph), graph, types)
    return errors


@dataclass(frozen=True)
class Collected:
    """Labels beside predictions, structure by structure, as parity plots need them; NaN where either is missing."""

    config_types: NDArray[np.str_]  # (structures,)
    num_atoms: NDArray[np.int64]  # (structures,)
    numbers: NDArray[np.int64]  # (atoms,)
    energy_label: NDArray[np.float64]  # (structures,) eV/atom
    energy_predicted: NDArray[np.float64]
    forces_label: NDArray[np.float64]  # (atoms, 3) eV/A
    forces_predicted: NDArray[np.float64]
    stress_label: NDArray[np.float64]  # (structures, 3, 3) eV/A^3
    stress_predicted: NDArray[np.float64]

    @staticmethod
    def from_batch(prediction: Prediction, graph: AtomicGraph, config_types: Sequence[str]) -> Collected:
        atoms = graph.atoms_per_system.cpu().numpy()
        energies, forces, stresses = (len(atoms),), (len(graph.numbers), 3), (len(atoms), 3, 3)
        return Collected(
            config_types=np.array(config_types, dtype=np.str_),
            num_atoms=atoms,
            numbers=graph.numbers.cpu().numpy(),
            energy_label=_array(graph.system_data.get("energy"), energies) / atoms,
            energy_predicted=_array(prediction.energy, energies) / atoms,
            forces_label=_array(graph.atom_data.get("forces"), forces),
            forces_predicted=_array(prediction.forces, forces),
            stress_label=_array(graph.system_data.get("stress"), stresses),
            stress_predicted=_array(prediction.stress, stresses),
        )

    def take(self, structures: NDArray[np.int64]) -> Collected:
        """Those of some structures."""
        atoms = atoms_of(np.concatenate([[0], np.cumsum(self.num_atoms)]), structures)
        per_atom = ("numbers", "forces_label", "forces_predicted")
        return Collected(**{n: a[atoms if n in per_atom else structures] for n, a in vars(self).items()})

    @staticmethod
    def concatenate(parts: Sequence[Collected]) -> Collected:
        return Collected(*(np.concatenate(arrays) for arrays in zip(*(vars(p).values() for p in parts), strict=True)))


def _array(values: Tensor | None, shape: tuple[int, ...]) -> NDArray[np.float64]:
    return np.full(shape, np.nan) if values is None else values.detach().cpu().double().numpy()


def rmse_without_shifts(errors: NDArray[np.float64], composition: NDArray[np.int64]) -> float | None:
    """RMSE of energy errors per atom once the best constant for each element is taken off: what is left if the model
    and the labels only count energies from different reference levels.

    errors_i = sum_z x_iz shift_z + residual_i, x_iz being the fraction of element z; sqrt(|residual|^2 / (n - rank)).

    Args:
        errors: (structures,) predicted - label in energy per atom; NaN where unknown. The result is in its unit.
        composition: (structures, elements) atoms of each element.

    Returns:
        None for fewer than three structures to each constant: so few are fitted whatever they are.
    """
    known = np.isfinite(errors)
    fractions = composition[known] / composition[known].sum(axis=1, keepdims=True)
    shifts, _, rank, _ = np.linalg.lstsq(fractions, errors[known], rcond=1e-10)
    if known.sum() < 3 * max(int(rank), 1):
        return None
    residual = errors[known] - fractions @ shifts
    return float(np.sqrt(np.sum(residual**2) / (known.sum() - rank)))
