"""A device that is not there, so that what would fail on one fails here.

`pretended_device("cuda")` computes on the CPU and holds every tensor to the rules of the device that it claims to be
on. Shapes, branches that depend on data, and derivatives are the real ones; torch's own fake tensors, which have no
numbers, cannot follow them.

| what | as on the device |
|---|---|
| an operation on tensors of two devices | refused, but for CPU tensors of no dimension where torch takes them |
| indices on the CPU into a tensor of the device | taken; the reverse is refused |
| `.numpy()`, `numpy.asarray`, `.data_ptr()` | refused |
| random numbers by a generator on the CPU | refused |
| float64 and complex128 on "mps", also to convert a copy to the CPU | refused |

The device's own kernels cannot run: operations fall back to their reference in plain torch. Which operations a device
lacks (MPS has not all), and its speed, are not seen here.

Below Python the tensors are on torch's meta device, the only one besides the CPU whose tensors autograd takes on every
machine. Tensors that a program itself puts on "meta" stay what they are.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing

from atomsml.device import has_float64
from atomsml.ops import dispatch

BELOW = torch.device("meta")

_aten = torch.ops.aten
_COPIES = {_aten._to_copy.default, _aten.copy_.default, _aten._local_scalar_dense.default}
_INDEXING = {
    _aten.index.Tensor,
    _aten._unsafe_index.Tensor,
    _aten.index_put.default,
    _aten.index_put_.default,
    _aten._index_put_impl_.default,
    _aten._unsafe_index_put.default,
}
# these take a number as a CPU tensor of no dimension, as all do that torch tags as pointwise
_WITH_NUMBERS = {
    _aten.fill.Tensor,
    _aten.fill_.Tensor,
    _aten.masked_fill.Tensor,
    _aten.masked_fill_.Tensor,
    _aten.index_fill.int_Tensor,
    _aten.index_fill_.int_Tensor,
    _aten.floor_divide.default,
    _aten.rsub.Tensor,
}


@contextmanager
def pretended_device(kind: str) -> Iterator[torch.device]:
    """Within it, this machine has one device of this kind, "cuda" or "mps"; one that is there is taken itself.

    Raises:
        ValueError: another kind.
    """
    if kind not in ("cuda", "mps"):
        raise ValueError(f"cuda and mps can be pretended, {kind!r} cannot")
    device = torch.device(kind, 0)
    if torch.cuda.is_available() if kind == "cuda" else torch.backends.mps.is_available():
        yield device
        return
    swaps = torch.__future__.get_swap_module_params_on_conversion()
    with ExitStack() as stack:
        for name, value in _MACHINE[kind].items():
            stack.enter_context(patch(name, lambda *_, value=value: value))
        stack.enter_context(patch.dict(dispatch.MODULES, {kind: "none"}))  # no file has this name: the reference
        dispatch.kernels.cache_clear()
        stack.callback(dispatch.kernels.cache_clear)
        # a module that moves exchanges its parameters: the numbers of a pretended tensor cannot be
        torch.__future__.set_swap_module_params_on_conversion(True)
        stack.callback(torch.__future__.set_swap_module_params_on_conversion, swaps)
        operations = stack.enter_context(_Operations(device))
        stack.enter_context(_Calls(operations))
        yield device


# what torch says of such a machine; the initialisation, which torch makes on its own, does nothing
_MACHINE: dict[str, dict[str, Any]] = {
    "cuda": {
        "torch.cuda.is_available": True,
        "torch.cuda.device_count": 1,
        "torch.cuda.is_current_stream_capturing": False,
        "torch.cuda.is_bf16_supported": True,
        "torch.cuda._lazy_init": None,
        "torch.cuda.Event": SimpleNamespace(record=lambda: None, synchronize=lambda: None),  # all is done at once
    },
    "mps": {"torch.backends.mps.is_available": True},
}


class PretendedTensor(Tensor):
    """Numbers on the CPU that claim to be on a device."""

    host: Tensor
    _device: torch.device

    @staticmethod
    def __new__(cls, host: Tensor, device: torch.device) -> PretendedTensor:
        _check_precision(host.dtype, device)
        made: PretendedTensor = Tensor._make_wrapper_subclass(
            cls,
            host.size(),
            strides=host.stride(),
            storage_offset=host.storage_offset(),
            dtype=host.dtype,
            device=BELOW,
        )
        made.host, made._device = host, device
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self._device

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return self._device.type == "cuda"

    @property
    def is_mps(self) -> bool:  # type: ignore[override]
        return self._device.type == "mps"

    @property
    def is_meta(self) -> bool:  # type: ignore[override]
        return False

    def numpy(self, *, force: bool = False) -> np.ndarray:
        if not force:
            raise TypeError(f"can't convert {self._device} device type tensor to numpy. Use Tensor.cpu() first.")
        return self.detach().cpu().numpy()

    def tolist(self) -> Any:
        return self.detach().cpu().tolist()

    def data_ptr(self) -> int:
        raise RuntimeError(f"the address of a tensor on {self._device} was asked for, which no CPU can read")

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        copied = self.detach().clone().requires_grad_(self.requires_grad)
        copied = nn.Parameter(copied, self.requires_grad) if isinstance(self, nn.Parameter) else copied
        copied.grad = copy.deepcopy(self.grad, memo)
        memo[id(self)] = copied
        return copied

    def __repr__(self) -> str:  # type: ignore[override]
        return f"{self.host!r} on {self._device}"

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _carry_out(func, args, kwargs or {}, None)


class _Calls(TorchFunctionMode):
    """Calls from Python: a device gets the number that torch would ask of it, and data go through the CPU."""

    def __init__(self, operations: _Operations) -> None:
        super().__init__()
        self.device, self.operations = operations.device, operations

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if torch.device("meta") in _devices(args, kwargs):
            with self.operations.left_alone():
                return func(*args, **kwargs)
        if func is Tensor.cuda:
            func, args = Tensor.to, (args[0], torch.device("cuda"))
        if func is Tensor.to and isinstance(args[-1], str):
            args = (args[0], torch.device(args[1]))
        if isinstance(kwargs.get("device"), str):
            kwargs["device"] = torch.device(kwargs["device"])
        args, kwargs = _replaced(torch.device, self._numbered, args), _replaced(torch.device, self._numbered, kwargs)
        if func is Tensor.new_tensor:
            kwargs = {"dtype": args[0].dtype, "device": args[0].device, **kwargs}
            func, args = torch.tensor, args[1:]
        if func in (torch.tensor, torch.as_tensor) and "device" in kwargs:
            device = kwargs.pop("device")
            return func(*args, **kwargs).to(device)
        if func in (Tensor.__getitem__, Tensor.__setitem__) and isinstance(args[0], PretendedTensor):
            args = (args[0], _index(args[1]), *args[2:])
        return func(*args, **kwargs)

    def _numbered(self, device: torch.device) -> torch.device:
        if device.type == "cpu":
            return device
        if device.type != self.device.type or device.index not in (None, 0):
            raise RuntimeError(f"there is no device {device} here, but {self.device}")
        return self.device


def _devices(args: Any, kwargs: dict[str, Any]) -> list[torch.device]:
    """Those that a call names."""
    words = [x for x in (*args[1:2], kwargs.get("device")) if isinstance(x, str) and x == "meta"]
    return [x for x in (*args, *kwargs.values()) if isinstance(x, torch.device)] + [torch.device(x) for x in words]


def _index(index: Any) -> Any:
    """The same with tensors instead of lists: torch would make some without numbers."""
    parts = index if isinstance(index, tuple) else (index,)
    return tuple(torch.tensor(x) if isinstance(x, list | np.ndarray) else x for x in parts)


class _Operations(TorchDispatchMode):
    """What calls become, also within derivatives."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device, self.alone = device, False

    @contextmanager
    def left_alone(self) -> Iterator[None]:
        before, self.alone = self.alone, True
        try:
            yield
        finally:
            self.alone = before

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {})) if self.alone else _carry_out(func, args, kwargs or {}, self.device)


def _carry_out(func: Any, args: Any, kwargs: dict[str, Any], device: torch.device | None) -> Any:
    """An operation on the numbers behind its arguments; `device` is where tensors go that none of them places."""
    tensors = [*_tensors(args), *_tensors(kwargs)]
    pretended = [x for x in tensors if isinstance(x, PretendedTensor)]
    if pretended:
        if any(x.is_meta for x in tensors):
            raise NotImplementedError(f"{func} got a tensor without numbers beside pretended ones")
        _check(func, args, kwargs)
        device = pretended[0].device
    wanted = kwargs.get("device")
    if func is _aten.copy_.default:
        stays = not isinstance(args[0], PretendedTensor)
    else:
        stays = not pretended if wanted is None else wanted not in (BELOW, device)
    if device is None or (stays and not pretended):
        return func(*args, **kwargs)
    generator = kwargs.get("generator")
    if generator is not None and generator.device.type != device.type:
        raise RuntimeError(f"Expected a '{device.type}' device type for generator but found '{generator.device.type}'")
    host_args, host_kwargs = (_replaced(PretendedTensor, lambda x: x.host, each) for each in (args, kwargs))
    if wanted is not None:
        host_kwargs["device"] = torch.device("cpu")
    found = func(*host_args, **host_kwargs)
    if stays:
        if isinstance(found, Tensor):
            _check_precision(found.dtype, device)  # a device converts what it copies to the CPU
        return found
    found = _replaced(Tensor, lambda x: PretendedTensor(x, device), found)
    return return_and_correct_aliasing(func, args, kwargs, found)


def _replaced(kind: type, change: Callable[[Any], Any], value: Any) -> Any:
    """`value` with each `kind` inside changed: what torch's trees do for all containers, for those of calls alone."""
    if isinstance(value, kind):
        return change(value)
    if type(value) in (tuple, list):
        return type(value)([_replaced(kind, change, x) for x in value])
    return {name: _replaced(kind, change, x) for name, x in value.items()} if type(value) is dict else value


def _tensors(value: Any) -> Iterator[Tensor]:
    """Those within tuples, lists and dictionaries."""
    if isinstance(value, Tensor):
        yield value
    elif type(value) in (tuple, list, dict):
        for x in value.values() if type(value) is dict else value:
            yield from _tensors(x)


def _check_precision(dtype: torch.dtype, device: torch.device) -> None:
    if dtype in (torch.float64, torch.complex128) and not has_float64(device):
        raise TypeError(f"Cannot convert a {device} Tensor to {dtype}, which the device does not support")


def _check(func: Any, args: Any, kwargs: dict[str, Any]) -> None:
    """Refuse what a device refuses; some of the arguments are on one."""
    if torch.Tag.inplace_view in func.tags:
        raise NotImplementedError(f"{func} reshapes a tensor in place, which cannot be pretended")
    if func in _COPIES:
        return
    if func in _INDEXING and isinstance(args[0], PretendedTensor):
        tensors, numbers = [args[0], *args[2:3]], True
    else:
        tensors = [*_tensors(args), *_tensors(kwargs)]
        numbers = torch.Tag.pointwise in func.tags or func in _WITH_NUMBERS
    tensors = [x for x in tensors if isinstance(x, Tensor)]
    changed = tensors[0] if torch.Tag.inplace in func.tags else None
    at_home = [x for x in tensors if not isinstance(x, PretendedTensor)]
    if any(x.ndim > 0 or x is changed or not numbers for x in at_home):
        found = ", ".join(f"{tuple(x.shape)} on {x.device}" for x in tensors)
        raise RuntimeError(f"Expected all tensors to be on the same device, but {func} got {found}")
