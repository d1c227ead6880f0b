"""Several processes that train one model on parts of each batch: what they add up, and nothing else.

`torchrun --nproc-per-node N -m atomsml.cli train ...` starts them. Every process reads the same data and plans the same
batches, evaluates its share of each, and adds its gradient to those of the others, so that all take the same step.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class World:
    """This process and how many there are."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and talks."""
        return self.rank == 0

    def add(self, values: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.size > 1:
            shared = values.cuda() if dist.get_backend() == "nccl" else values
            dist.all_reduce(shared)
            values.copy_(shared)
        return values

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its sum over all processes; one message for all of them."""
        if self.size == 1:
            return
        trained = [p for p in parameters if p.requires_grad]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
        summed = self.add(torch.cat([g.flatten() for g in gradients]))
        for parameter, part in zip(trained, summed.split([p.numel() for p in trained]), strict=True):
            parameter.grad = part.view_as(parameter)

    def same(self, value: float) -> float:
        """The first process's value, for decisions that all must take alike."""
        if self.size == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64)
        if dist.get_backend() == "nccl":
            shared = shared.cuda()
        dist.broadcast(shared, 0)
        return shared.item()

    def close(self) -> None:
        if self.size > 1:
            dist.destroy_process_group()


def join_world(device: torch.device) -> tuple[World, torch.device]:
    """Meet the other processes that torchrun started, if it did; a GPU without a number becomes one of one's own."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World(), device
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return World(dist.get_rank(), size), device
