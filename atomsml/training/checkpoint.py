"""Save and restore a TrainingState: one .safetensors file with a JSON header, never a pickle.

A checkpoint is written beside the last one and renamed, so that a run killed at any moment has a whole one. Tensors are
kept as they are, and Python writes a float so that it reads back the same: the restored run goes on bit for bit.

| tensors | meaning |
|---|---|
| model/NAME | weights and buffers that are trained |
| averaged/NAME | their moving average |
| optimizer/I/KEY | what the optimiser remembers about its parameter number I |
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor

from atomsml.training.loop import Model, TrainingState

FORMAT = 1
IDENTITY = 2  # what a checkpoint knows its run by: 2 all data, 1 (or absent) the energies of the training set
_COUNTERS = ("step", "epoch", "batch", "minutes", "best_loss", "loss_sum", "loss_steps", "norms")


def save_checkpoint(state: TrainingState[Model], path: Path, run: str) -> None:
    """Write a checkpoint; `run` identifies what the run is about (data and config), which `load_checkpoint` compares.

    Raises:
        OSError: the file cannot be written; the last checkpoint is untouched.
        MemoryError: there is no room for a copy; the last checkpoint is untouched.
    """
    from atomsml.io import write_atomically

    remembered = state.optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    plain: dict[str, dict[str, Any]] = {}
    for prefix, model in (("model", state.model), ("averaged", state.averaged)):
        tensors |= {f"{prefix}/{name}": tensor for name, tensor in model.state_dict().items()}
    for index, entries in remembered["state"].items():
        for key, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer/{index}/{key}"] = value
            else:
                plain.setdefault(str(index), {})[key] = value
    header = {
        "format": FORMAT,
        "identity": IDENTITY,
        "run": run,
        "counters": {name: getattr(state, name) for name in _COUNTERS},
        "plateau": state.plateau.state(),
        "optimizer_groups": remembered["param_groups"],
        "optimizer_plain": plain,
    }
    copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    try:
        content = serialize(copies, metadata={"checkpoint": json.dumps(header)})
    except BaseException as error:  # safetensors panics where memory runs out, and a panic is no Exception
        if type(error).__name__ != "PanicException":
            raise
        raise MemoryError("out of memory") from None
    write_atomically(path, lambda beside: _write_through(beside, content))


def load_checkpoint(state: TrainingState[Model], path: Path, run: str) -> None:
    """Put a freshly started `state` where a checkpoint left off.

    Raises:
        ValueError: no checkpoint, a damaged one, or that of another run; `state` is then not to be used.
        OSError: the file cannot be read.
    """
    header, tensors = _read(path)
    if header.get("identity", 1) != IDENTITY:
        raise ValueError(
            f"{path} is of an earlier version of atomsml, which did not note all data of its run, so that nobody can "
            "say whether they are the same; go on with that version, or start anew in another folder"
        )
    if header["run"] != run:
        raise ValueError(
            f"{path} belongs to a run with other data, model or loss; give the same, or start anew in another folder"
        )
    for prefix, model in (("model", state.model), ("averaged", state.averaged)):
        model.load_state_dict(_under(f"{prefix}/", tensors))
    remembered: dict[int, dict[str, Any]] = {
        int(index): entries for index, entries in header["optimizer_plain"].items()
    }
    for name, tensor in _under("optimizer/", tensors).items():
        index, key = name.split("/")
        remembered.setdefault(int(index), {})[key] = tensor
    state.optimizer.load_state_dict({"state": remembered, "param_groups": header["optimizer_groups"]})
    state.plateau.restore(header["plateau"])
    for name in header["counters"].keys() & set(_COUNTERS):  # an older checkpoint lacks what is newer
        setattr(state, name, header["counters"][name])


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("checkpoint", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{path} is no whole checkpoint: {error}; start anew in another folder") from None
    if header.get("format") != FORMAT:
        raise ValueError(f"{path} is no checkpoint of this version of atomsml; start anew in another folder")
    return header, tensors


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _write_through(path: Path, content: bytes) -> None:
    """Write so that the bytes are on the disk before the file takes the place of the last one."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
