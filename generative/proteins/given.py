"""What is given of the chains of a batch: which residues there are, and the frames of those that are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from atomsml.generative.core.fields import State
from atomsml.generative.core.spaces.base import VectorSpace
from atomsml.generative.proteins.backbones import BackboneRequest
from atomsml.generative.proteins.network import UNIT

MOTIF_SHARE = 0.25  # of training samples have a known part
MOTIF_FRACTION = (0.05, 0.5)  # of the residues, about
MOST_RUNS = 4


@dataclass(frozen=True)
class Given:
    """Masks (samples, residues) of residues, and of those known; frames (in UNIT) which are clean where known."""

    mask: Tensor
    known: Tensor
    frames: State

    @staticmethod
    def of(clean: State, mask: Tensor, known: Tensor) -> Given:
        """All of the frames are given, with places moved to their centre, or to that of the known ones."""
        anchor = torch.where(known.any(dim=1, keepdim=True), known, mask)[..., None].to(clean["positions"])
        x = clean["positions"]
        centre = (x * anchor).sum(dim=1, keepdim=True) / anchor.sum(dim=1, keepdim=True).clamp_min(1)
        return Given(mask, known, {**clean, "positions": (x - centre) * mask[..., None]})

    def hold(self, state: State) -> State:
        """The state with the known residues in it."""
        return {name: torch.where(self.known[..., None], self.frames[name], x) for name, x in state.items()}


@dataclass(frozen=True)
class AnchoredPositions(VectorSpace):
    """Places about their centre, as `CenteredPositions`, but in samples with known residues, `anchored` (samples,)."""

    anchored: Tensor

    shape = (3,)

    def noise(self, nodes: int, generator: torch.Generator) -> Tensor:
        """Before it is projected."""
        return torch.randn(nodes, 3, generator=generator, dtype=torch.float64)

    def project(self, x: Tensor, mask: Tensor) -> Tensor:
        weights = mask[:, :, None].to(x.dtype)
        mean = (x * weights).sum(dim=1, keepdim=True) / weights.sum(dim=1, keepdim=True).clamp_min(1)
        return (x - torch.where(self.anchored[:, None, None], 0, mean)) * weights


def random_motifs(mask: Tensor, rng: np.random.Generator) -> Tensor:
    """Known residues (samples, residues) for training: none, or a few runs, of a sample with at least one left over."""
    known = np.zeros(tuple(mask.shape), bool)
    for row, size in enumerate(mask.sum(dim=1).tolist()):
        if size < 2 or rng.random() >= MOTIF_SHARE:
            continue
        runs = int(rng.integers(1, MOST_RUNS + 1))
        length = max(round(rng.uniform(*MOTIF_FRACTION) * size / runs), 1)
        for start in rng.integers(0, size - length + 1, runs).tolist():
            known[row, start : start + length] = True
        if known[row, :size].all():
            known[row, rng.integers(size)] = False
    return torch.from_numpy(known).to(mask.device)


def given_motifs(requests: Sequence[BackboneRequest], dtype: torch.dtype, device: torch.device) -> tuple[Given, Tensor]:
    """What the requests give, and the origins (samples, 3) of its frames in Angstrom, float64, on the CPU."""
    residues = max(request.length for request in requests)
    shape = (len(requests), residues)
    mask, known = (torch.zeros(shape, dtype=torch.bool) for _ in range(2))
    rotations, positions = torch.zeros(*shape, 4, dtype=torch.float64), torch.zeros(*shape, 3, dtype=torch.float64)
    origins = torch.zeros(len(requests), 3, dtype=torch.float64)
    for row, request in enumerate(requests):
        mask[row, : request.length] = True
        if request.motif is not None and request.motif.places:
            places = list(request.motif.places)
            known[row, places] = True
            origins[row] = request.motif.positions.double().mean(dim=0)
            rotations[row, places] = request.motif.quaternions.double()
            positions[row, places] = (request.motif.positions.double() - origins[row]) / UNIT
    frames = {"rotations": rotations.to(device, dtype), "positions": positions.to(device, dtype)}
    return Given(mask.to(device), known.to(device), frames), origins
