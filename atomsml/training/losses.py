"""Losses of energies, forces and stress, charges and multipoles, against their labels.

A loss is a weighted sum of the terms, each the mean of an error over all labels of a batch; a missing label is NaN
and counts nowhere.

| term | error | unit of the error |
|---|---|---|
| energy | energy per atom | eV/atom |
| forces | every component, or with "norm" the length of the error of an atom | eV/A |
| stress | every component | eV/A^3 |
| charges | mae of every charge | e |
| dipole | norm | e A |
| quadrupole | mae of every component of the traceless part | e A^2 |

| kind | mean of |
|---|---|
| mae | abs(error) |
| mse | error^2 |
| huber | error^2 / 2 up to `huber_delta`, then delta (abs(error) - delta / 2) |
| norm | abs(error vector) |

Huber: Ann. Math. Stat. 35, 73 (1964). The norm is rotation invariant, and not ruled by a few strained frames
(Chanussot et al., ACS Catal. 11, 6059 (2021), section 4).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from atomsml.geometry import volume
from atomsml.graph import AtomicGraph
from atomsml.potential import Prediction

LossKind = Literal["mae", "mse", "huber"]
TERMS = ("energy", "forces", "stress", "charges", "dipole", "quadrupole")


@dataclass(frozen=True)
class LossConfig:
    """What an error of each quantity costs; a weight of 0 leaves a quantity out."""

    energy: float = 1.0  # weight of the energy term
    forces: float = 1.0  # weight of the force term
    stress: float = 10.0  # weight of the stress term, where stresses are labelled
    charges: float = 1.0  # weight of the charges, of a model that has them, where they are labelled
    dipole: float = 1.0  # the same of dipoles
    quadrupole: float = 0.1  # the same of quadrupoles
    energy_kind: LossKind = "mae"
    forces_kind: LossKind | Literal["norm"] = "norm"
    stress_kind: LossKind = "mae"
    huber_delta: float = 0.01  # error at which "huber" turns from a square to a straight line

    def __post_init__(self) -> None:
        for name in TERMS:
            if getattr(self, name) < 0:
                raise ValueError(f"loss.{name} is a weight and must not be negative, got {getattr(self, name)}")
        if self.huber_delta <= 0:
            raise ValueError(f"loss.huber_delta must be positive, got {self.huber_delta}")


def loss_sums(prediction: Prediction, graph: AtomicGraph, config: LossConfig) -> tuple[Tensor, Tensor]:
    """Sums of the terms, each error times its structure's system_data["weight"], and how many labels they hold.

    Sums and counts of the parts of a batch add up, so that several processes reach the mean of the whole.

    Returns:
        sums, differentiable, times the weights of the terms; counts; both (6,), in the order of TERMS.
    """
    zero = prediction.energy.new_zeros(())
    weight = graph.system_data["weight"].to(prediction.energy)
    label = graph.system_data["energy"]
    terms = [_term((prediction.energy - label) / graph.atoms_per_system, label, weight, config.energy_kind, config)]
    if prediction.forces is None or config.forces == 0:
        terms.append((zero, zero))
    else:
        label = graph.atom_data["forces"]
        terms.append(_term(prediction.forces - label, label, weight[graph.batch], config.forces_kind, config))
    if prediction.stress is None or config.stress == 0:
        terms.append((zero, zero))
    else:
        has_stress = graph.pbc.any(dim=1) & (volume(graph.cell) > 0)
        label = graph.system_data["stress"].where(has_stress[:, None, None], torch.nan)
        terms.append(_term(prediction.stress - label, label, weight, config.stress_kind, config))
    terms += [_multipole_term(name, prediction, graph, config) for name in ("charges", "dipole", "quadrupole")]
    scale = zero.new_tensor([getattr(config, name) for name in TERMS])
    sums, counts = zip(*terms, strict=True)
    return torch.stack(sums) * scale, torch.stack(counts)


def loss(prediction: Prediction, graph: AtomicGraph, config: LossConfig) -> Tensor:
    """The weighted sum of the means of one batch; a term without labels is zero."""
    sums, counts = loss_sums(prediction, graph, config)
    return (sums / counts.clamp(min=1)).sum()


def _multipole_term(
    name: Literal["charges", "dipole", "quadrupole"], prediction: Prediction, graph: AtomicGraph, config: LossConfig
) -> tuple[Tensor, Tensor]:
    """Zero where the model or the data have none."""
    of_atoms = name == "charges"
    predicted = (prediction.atom_data if of_atoms else prediction.system_data).get(name)
    label = (graph.atom_data if of_atoms else graph.system_data).get(name)
    weight = graph.system_data["weight"].to(prediction.energy)
    if predicted is None or label is None or getattr(config, name) == 0:
        zero = prediction.energy.new_zeros(())
        return zero, zero
    if of_atoms:
        weight = weight[graph.batch]
    else:  # a periodic system has neither dipole nor quadrupole
        periodic = graph.pbc.any(dim=1).view(-1, *[1] * (label.ndim - 1))
        label = label.where(~periodic, torch.nan)
    return _term(predicted - label, label, weight, "norm" if name == "dipole" else "mae", config)


def _term(
    error: Tensor, label: Tensor, weight: Tensor, kind: LossKind | Literal["norm"], config: LossConfig
) -> tuple[Tensor, Tensor]:
    """Sum over the rows (structures or atoms) that have a label, and its number of items.

    The label says what is missing, not the error: a prediction that is NaN must be noticed.
    """
    known = ~torch.isnan(label.view(len(label), -1)).any(dim=1)
    rows, weight = error.view(len(label), -1)[known], weight[known]
    if kind == "norm":
        # the tiny constant keeps the gradient finite where an error vanishes
        each = torch.sqrt(rows.square().sum(dim=1, keepdim=True) + 1e-12)
    elif kind == "mae":
        each = rows.abs()
    elif kind == "mse":
        each = rows.square()
    else:
        each = torch.nn.functional.huber_loss(rows, torch.zeros_like(rows), reduction="none", delta=config.huber_delta)
    return (each * weight[:, None]).sum(), each.new_tensor(each.numel())
