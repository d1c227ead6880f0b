"""Checkpoint: from where a run goes on, bit for bit on a CPU.

Random numbers follow from the seed, system, step and atom, so that what changes in a run are the State, the Memory of
its integrator, and for which geometry each neighbour list was made: on that depends in which order forces are summed.

Systems that run together are a batch, and each batch has a checkpoint of its own:

| under checkpoint/NUMBER/ | meaning |
|---|---|
| state/NAME, memory/NAME | the tensors of both, with their types |
| origin/positions, origin/cell | the geometry for which the neighbour list was made; absent where there is no list |
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from atomsml.simulate.dynamics.integrator import Integrator, Memory
from atomsml.simulate.model import ListOrigin, Model
from atomsml.simulate.state import Flat, State


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a batch of a run is at a step; on the CPU when it has been read from a file."""

    state: State
    memory: dict[str, Tensor]  # of the integrator, by name
    origin: dict[str, Tensor]  # the geometry with which the neighbour list was made
    batch: int = 0  # its number in the run

    @staticmethod
    def of(state: State, memory: Flat, model: Model) -> Checkpoint:
        """Of systems that the model has just evaluated, and that are all that run."""
        return Checkpoint(replace(state), tensors_of(memory), tensors_of(model.origin(state)))  # the state moves on

    def to(self, device: torch.device) -> Checkpoint:
        memory, origin = ({k: x.to(device) for k, x in tensors.items()} for tensors in (self.memory, self.origin))
        return Checkpoint(self.state.to(device), memory, origin, self.batch)

    def restore(self, integrator: Integrator[Memory], model: Model) -> tuple[State, Memory]:
        """The state and the memory of the integrator; the model has the neighbour list then that it had.

        Raises:
            ValueError: the run was made with another integrator.
        """
        copy = State(**{name: tensor.clone() for name, tensor in tensors_of(self.state).items()})
        started = integrator.start(copy)  # which may change the state
        if self.memory.keys() != started.levels.keys():
            raise ValueError(
                f"the run remembers {_listed(self.memory)}, the integrator {_listed(started.levels)}; go on with the "
                "ensemble, thermostat and barostat with which it began"
            )
        model.restore(self.state, ListOrigin(**self.origin))
        return self.state, replace(started, **self.memory)


def tensors_of(flat: Flat) -> dict[str, Tensor]:
    return {name: getattr(flat, name) for name in flat.levels}


def write_checkpoint(checkpoints: h5py.Group, checkpoint: Checkpoint) -> None:
    group = checkpoints.require_group(str(checkpoint.batch))
    for name, tensors in (
        ("state", tensors_of(checkpoint.state)),
        ("memory", checkpoint.memory),
        ("origin", checkpoint.origin),
    ):
        _write_tensors(group.require_group(name), tensors)


def read_checkpoint(checkpoints: h5py.Group, batch: int) -> Checkpoint:
    """
    Raises:
        ValueError: none was written, or one by another version of atomsml.
    """
    if str(batch) not in checkpoints:
        raise ValueError("the run was stopped before its first checkpoint")
    group = checkpoints[str(batch)]
    state = _read_tensors(group["state"])
    known = {each.name for each in fields(State)}
    if state.keys() != known:
        raise ValueError(
            f"its checkpoint is of another version of atomsml: {_listed(state)} instead of {_listed(known)}"
        )
    return Checkpoint(State(**state), _read_tensors(group["memory"]), _read_tensors(group["origin"]), batch)


def _write_tensors(group: h5py.Group, tensors: dict[str, Tensor]) -> None:
    for name in set(group) - tensors.keys():
        del group[name]
    for name, tensor in tensors.items():
        values = tensor.detach().cpu().numpy()
        if name in group and group[name].shape == values.shape and group[name].dtype == values.dtype:
            group[name][...] = values
        else:
            if name in group:
                del group[name]
            group.create_dataset(name, data=values)


def _read_tensors(group: h5py.Group) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.array(array)) for name, array in group.items()}


def _listed(names: Any) -> str:
    return ", ".join(sorted(names)) or "nothing"
