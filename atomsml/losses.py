"""Losses of energies, forces and stress against their labels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from atomsml.graph import AtomicGraph
from atomsml.potential import Prediction


@dataclass(frozen=True)
class LossWeights:
    """What an error of each quantity costs; the loss is the weighted sum of mean absolute errors."""

    energy: float = 1.0  # per eV/atom
    forces: float = 1.0  # per eV/A
    stress: float = 0.0  # per eV/A^3


def loss(prediction: Prediction, graph: AtomicGraph, weights: LossWeights) -> Tensor:
    """Weighted mean absolute error of energy per atom, length of the force error, and stress components.

    The mean length |F - F_label| is rotation invariant and, unlike the mean square, is not ruled by a few strained
    frames (Chanussot et al., ACS Catal. 11, 6059 (2021), section 4). Labels: system_data["energy"] (eV) and
    atom_data["forces"] (eV/A); system_data["stress"] (eV/A^3), NaN where a structure has none.
    """
    per_atom = (prediction.energy - graph.system_data["energy"]) / graph.atoms_per_system
    total = weights.energy * per_atom.abs().mean()
    if weights.forces > 0:
        assert prediction.forces is not None
        error = prediction.forces - graph.atom_data["forces"]
        # the tiny constant keeps the gradient finite where an error vanishes
        total = total + weights.forces * torch.sqrt((error**2).sum(dim=1) + 1e-12).mean()
    if weights.stress > 0:
        assert prediction.stress is not None
        label = graph.system_data["stress"]
        known = ~(torch.isnan(label).any(dim=(1, 2)) | torch.isnan(prediction.stress.detach()).any(dim=(1, 2)))
        if known.any():
            total = total + weights.stress * (prediction.stress[known] - label[known]).abs().mean()
    return total
