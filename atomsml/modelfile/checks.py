"""Whether a file holds what its description promises, before memory is asked for."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from math import ceil
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from atomsml.modelfile.description import first_line

Model = TypeVar("Model", bound=nn.Module)
_DTYPES = {"F32": torch.float32, "F64": torch.float64, "I64": torch.int64, "I32": torch.int32, "BOOL": torch.bool}


def build_within_budget(path: Path, build: Callable[[], Model]) -> Model:
    """What `build` makes, unless it asks for far more memory than the file at `path` holds numbers.

    Raises:
        ValueError: it does, or the model refuses its config.
    """
    try:
        with torch.random.fork_rng(devices=[]), _Budget(4 * path.stat().st_size + 10_000_000):
            return build()
    except (ValueError, TypeError, ArithmeticError, RuntimeError) as error:  # torch uses them all
        raise ValueError(f"model file {path} has an impossible config: {first_line(error)}") from None


def check_tensors(path: Path, model: nn.Module) -> torch.dtype:
    """Compare the tensors that a file declares with those of a model; returns the one dtype of its weights.

    Raises:
        ValueError: one that lacks or is unexpected, or has another shape or type; names it.
    """
    wanted, weights = model.state_dict(), dict(model.named_parameters())
    with safe_open(path, framework="pt") as file:
        names = file.keys()
        declared = {name: file.get_slice(name) for name in names}
    difference = sorted(set(wanted) ^ set(declared))
    if difference:
        side = "lacks" if difference[0] in wanted else "has an unexpected"
        raise ValueError(f"model file {path} {side} tensor {reprlib.repr(difference[0])}")
    dtypes = set()
    for name, tensor in wanted.items():
        shape, dtype = tuple(declared[name].get_shape()), _DTYPES.get(declared[name].get_dtype())
        if shape != tuple(tensor.shape):
            raise ValueError(
                f"model file {path}: tensor {name!r} has shape {shape}, its config asks for {tuple(tensor.shape)}"
            )
        if dtype is None or dtype.is_floating_point != tensor.is_floating_point():
            raise ValueError(f"model file {path}: tensor {name!r} has type {declared[name].get_dtype()}")
        if name in weights:
            dtypes.add(dtype)
    if len(dtypes) != 1:
        raise ValueError(f"model file {path}: the weights must all be float32 or all be float64")
    return dtypes.pop()


def check_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raise ValueError that names a tensor with a number that is not finite."""
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"model file {path}: tensor {name!r} has numbers that are not finite; it is damaged")


def check_claims(path: Path, description: dict[str, Any], found: Mapping[str, Any]) -> None:
    """Compare what a description says beside the config with what the model that was read says of itself.

    Raises:
        ValueError: elements, references, cutoff or another key of `found` are others; says which.
    """
    for key, value in found.items():
        if key in description and description[key] != value:
            said, right = reprlib.repr(description[key]), reprlib.repr(value)
            raise ValueError(f"model file {path} contradicts itself: it says {key} {said}, but the model has {right}")


class _Budget(TorchFunctionMode):
    """Refuses to make tensors of more than so many elements together.

    Each factory call is first tried on torch's meta device, where a tensor has a size but no memory. There randn and
    arange, of which all models are made, would import torch's symbolic shapes, which takes longer than all else.
    """

    _FACTORIES: ClassVar = {
        torch.arange, torch.empty, torch.eye, torch.full, torch.linspace, torch.ones, torch.rand, torch.randint,
        torch.randn, torch.zeros,
    }  # fmt: skip

    def __init__(self, elements: int) -> None:
        super().__init__()
        self.left = elements

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function in self._FACTORIES:
            described = {key: value for key, value in kwargs.items() if key != "generator"} | {"device": "meta"}
            if function is torch.arange:
                self.left -= _length_of_range(*args, **described)
            else:
                like = torch.rand if function is torch.randn else function
                self.left -= like(*args, **described).numel()
            if self.left < 0:
                raise ValueError("the model would be far larger than its file")
        return function(*args, **kwargs)


def _length_of_range(start: float, end: float | None = None, step: float = 1, **_: Any) -> int:
    """Numbers that torch.arange makes."""
    first, last = (0, start) if end is None else (start, end)
    return max(0, ceil((last - first) / step))
