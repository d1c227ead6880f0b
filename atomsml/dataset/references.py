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

    Structures without an energy do not count. Of all solutions (one element in all structures at a fixed ratio to
    another) the one of least norm is taken, so that an element that does not occur gets 0.

    Raises:
        ValueError: no energy at all, or an element of the dataset that is not in `elements`.
    """
    counts = _counts(dataset, elements)
    labelled = ~np.isnan(dataset.energy)
    if not labelled.any():
        raise ValueError("reference energies by least squares need energies, and no structure has one")
    per_atom = counts[labelled] / dataset.num_atoms[labelled, None]
    energies = dataset.energy[labelled] / dataset.num_atoms[labelled]
    # the normal equations have few unknowns, but square the condition number; the matrix is small enough without them
    solution, *_ = np.linalg.lstsq(per_atom, energies, rcond=1e-10)
    return torch.as_tensor(solution)


def isolated_atom_references(dataset: Dataset, elements: Sequence[int]) -> Tensor:
    """(elements,) energies in eV of the isolated atoms among the structures.

    An isolated atom is a structure of one atom that is not periodic, or whose config type says so.

    Raises:
        ValueError: an element without one, or with several of different energies.
    """
    counts = _counts(dataset, elements)
    named = np.isin(np.char.lower(dataset.config_types.astype(str)), ISOLATED)
    single = np.flatnonzero((dataset.num_atoms == 1) & ~np.isnan(dataset.energy))
    open_axes = ~dataset.columns(single).pbc.any(axis=1) if len(single) else np.zeros(0, dtype=bool)
    atoms = single[open_axes | named[single]]
    references = np.empty(len(elements))
    for i, element in enumerate(elements):
        energies = dataset.energy[atoms[counts[atoms, i] == 1]]
        if len(energies) == 0:
            raise ValueError(
                f"no isolated atom of element {element} in the data; add one (a single atom without periodicity, or of "
                "config type IsolatedAtom), or take references by least squares"
            )
        if np.ptp(energies) > SAME:
            raise ValueError(f"isolated atoms of element {element} have energies {energies.tolist()}; keep one")
        references[i] = energies.mean()
    return torch.as_tensor(references)


def _counts(dataset: Dataset, elements: Sequence[int]) -> np.ndarray:
    """(n, elements) atoms of each element."""
    unknown = sorted(set(dataset.elements) - set(elements))
    if unknown:
        raise ValueError(f"the data have elements {unknown} that are not among {list(elements)}")
    return np.concatenate([block[:, list(elements)] for _, block in dataset.compositions()])
