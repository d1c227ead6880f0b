"""Reference energies of the elements, which a potential adds to what it learns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from atomsml.dataset.dataset import Dataset

ISOLATED = ("isolatedatom", "isolated_atom", "isolated")  # how config types call a free atom in a periodic box
SAME = 1e-3  # eV: energies of one isolated atom that differ by more are not the same state


def least_squares_references(dataset: Dataset, elements: Sequence[int]) -> Tensor:
    """(elements,) energies in eV that, summed over the atoms, fit the energies per atom best.

    Structures without an energy do not count, nor do isolated atoms: what binds atoms is no constant of an element, and
    one fit through both would be right for neither. Of all solutions (one element in all structures at a fixed ratio to
    another) the one of least norm is taken, so that an element that does not occur gets 0.

    Raises:
        ValueError: no energy at all, or an element of the dataset that is not in `elements`.
    """
    isolated = isolated_atoms(dataset)
    bound = dataset if isolated.all() else dataset.subset(np.flatnonzero(~isolated))
    references, _ = fit_compositions(bound, elements, per_atom=False)
    return torch.as_tensor(references)


def fit_compositions(dataset: Dataset, elements: Sequence[int], per_atom: bool) -> tuple[np.ndarray, float]:
    """Fit energies by one number for each element.

    per_atom=False: E / n = sum_z x_z e_z, with x_z the fraction of element z; per_atom=True: E = sum_z x_z e_z, as if
    the energies were already per atom. Structures without an energy do not count. The equations are reduced by QR
    factorisations of blocks, so that memory does not grow with the dataset.

    Returns: (elements,) eV, and the norm of what is left over the norm of the left-hand sides.
    """
    unknown = sorted(set(dataset.elements) - set(elements))
    if unknown:
        raise ValueError(f"the data have elements {unknown} that are not among {list(elements)}")
    energy = dataset.energy
    reduced = np.zeros((0, len(elements) + 1))
    for start, block in dataset.compositions():
        rows = slice(start, start + len(block))
        size = dataset.num_atoms[rows, None]
        values = energy[rows, None] / (1 if per_atom else size)
        equations = np.concatenate([block[:, list(elements)] / size, values], axis=1)
        stacked = np.concatenate([reduced, equations[~np.isnan(energy[rows])]])
        reduced = np.linalg.qr(stacked).R
    if np.isnan(energy).all():
        raise ValueError("a fit to the energies needs energies, and no structure has one")
    solution, *_ = np.linalg.lstsq(reduced[:, :-1], reduced[:, -1], rcond=1e-10)
    left = np.linalg.norm(reduced[:, :-1] @ solution - reduced[:, -1])
    return solution, float(left / max(np.linalg.norm(reduced[:, -1]), np.finfo(float).tiny))


def isolated_atoms(dataset: Dataset) -> np.ndarray:
    """(n,) bool: structures of one atom that are not periodic, or whose config type says that they are isolated."""
    isolated = dataset.num_atoms == 1
    single = np.flatnonzero(isolated)
    named = np.isin(np.char.lower(dataset.config_types[single].astype(str)), ISOLATED)
    isolated[single] = named | ~dataset.columns(single).pbc.any(axis=1)
    return isolated


def isolated_atom_references(dataset: Dataset, elements: Sequence[int]) -> Tensor:
    """(elements,) energies in eV of the isolated atoms among the structures.

    Raises:
        ValueError: an element without one, or with several of different energies.
    """
    from ase.data import chemical_symbols

    columns = dataset.columns(np.flatnonzero(isolated_atoms(dataset) & ~np.isnan(dataset.energy)))
    energies = {chemical_symbols[z]: columns.energy[columns.numbers == z] for z in elements}
    missing = [symbol for symbol, values in energies.items() if len(values) == 0]
    if missing:
        raise ValueError(
            f"no isolated atom of {' '.join(missing)} in the data; add one (a single atom without "
            "periodicity, or of config type IsolatedAtom), or take references by least squares"
        )
    for symbol, values in energies.items():
        if np.ptp(values) > SAME:
            listed = np.unique(values).tolist()
            raise ValueError(f"isolated atoms of {symbol} have energies {listed}; keep one")
    return torch.tensor([values.mean() for values in energies.values()], dtype=torch.float64)
