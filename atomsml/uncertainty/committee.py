"""Standard deviations of predictions by a committee.

A committee predicts the mean of its K members; the uncertainty of energies, forces and stress is their spread,
s^2 = sum_k (x_k - mean)^2 / (K - 1).
The uncertainty of a single potential is in last_layer.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial, reduce
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from atomsml.electronic_state import ElectronicState
from atomsml.graph import AtomicGraph
from atomsml.potential import Potential, Prediction, Predictor, evaluate


class Committee(nn.Module):
    """Several potentials as one: their mean and their spread. `Committee(...)(graph)` is a `Predict`.

    The members may differ in architecture, cutoff and elements; the committee knows the elements that all know.

    Raises:
        ValueError: fewer than two members, a member that is no potential, members for different charges or spins, or
            no element in common.
    """

    def __init__(self, members: Sequence[Potential]) -> None:
        super().__init__()
        if len(members) < 2:
            raise ValueError(f"a committee has a spread only from two members on, got {len(members)}")
        for member in members:
            if not isinstance(member, Potential):
                raise ValueError(f"the members of a committee must be single potentials, got a {type(member).__name__}")
        self.members: Sequence[Potential] = nn.ModuleList(members)  # type: ignore[assignment]
        self.cutoff = max(member.cutoff for member in members)
        self.direct_forces = any(member.direct_forces for member in members)
        self.jumps_at_cutoff = any(member.jumps_at_cutoff for member in members)
        self.has_charges = all(member.has_charges for member in members)
        self.electronic_state = reduce(ElectronicState.merged, (member.electronic_state for member in members))
        self.elements = tuple(sorted(set.intersection(*(set(member.elements) for member in members))))
        if not self.elements:
            raise ValueError("the members of a committee have no element in common")

    def cast(self, dtype: torch.dtype) -> Self:
        for member in self.members:
            member.cast(dtype)
        return self

    def forward(self, graph: AtomicGraph, forces: bool = True, stress: bool = False) -> Prediction:
        """Mean, and as "energy_std", "forces_std" and "stress_std" the sample standard deviation, over the members.

        Charges, dipoles and quadrupoles are there, as means, where all members have them.

        A graph without a neighbour list gets one at `self.cutoff`; each member sees the part within its own cutoff.
        """
        return self.mean([partial(evaluate, member) for member in self.members], graph, forces, stress)

    def predictor(self, exact: bool = False) -> Predictor:
        """The same by the predictors of the members, as they are now (`Potential.predictor`)."""
        return partial(self.mean, [member.predictor(exact) for member in self.members])

    def mean(
        self, predictors: Sequence[Predictor], graph: AtomicGraph, forces: bool = True, stress: bool = False
    ) -> Prediction:
        """What `forward` says, from predictors of the members."""
        graph = graph.connected(self.cutoff)
        found = []
        for member, predict in zip(self.members, predictors, strict=True):
            near = graph.closer_than(member.cutoff) if member.cutoff < self.cutoff else graph
            found.append(predict(near, forces, stress))
        energy = torch.stack([prediction.energy for prediction in found])
        mean_forces, forces_std = _mean_and_std([prediction.forces for prediction in found])
        mean_stress, stress_std = _mean_and_std([prediction.stress for prediction in found])
        return Prediction(
            energy=energy.mean(dim=0),
            atom_energies=torch.stack([prediction.atom_energies for prediction in found]).mean(dim=0),
            forces=mean_forces,
            stress=mean_stress,
            atom_data=_means([each.atom_data for each in found])
            | ({} if forces_std is None else {"forces_std": forces_std}),
            system_data=_means([each.system_data for each in found])
            | {"energy_std": energy.std(dim=0)}
            | ({} if stress_std is None else {"stress_std": stress_std}),
        )


def _means(found: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Of what all members have beside energies, forces and stress."""
    common = [name for name in found[0] if all(name in one for one in found)]
    return {name: torch.stack([one[name] for one in found]).mean(dim=0) for name in common}


def _mean_and_std(values: list[Tensor | None]) -> tuple[Tensor | None, Tensor | None]:
    known = [value for value in values if value is not None]
    if not known:
        return None, None
    together = torch.stack(known)
    return together.mean(dim=0), together.std(dim=0)


def committee_files(folder: str | Path) -> list[Path]:
    """The model files member-0/model.safetensors, member-1/..., of a folder that `atomsml train --committee` wrote.

    Raises:
        ValueError: there are none.
    """
    files = list(Path(folder).glob("member-*/model.safetensors"))
    if not files:
        raise ValueError(f"{folder} is a folder without member-*/model.safetensors; name a model file, or a committee")
    return sorted(files, key=lambda file: (len(file.parent.name), file.parent.name))  # 10 comes after 9
