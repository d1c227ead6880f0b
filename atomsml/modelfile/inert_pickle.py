"""Read a file of torch.save without running anything that it asks for.

Such a file is a zip archive: one pickle (`data.pkl`) that describes objects, and the raw numbers of each tensor storage
beside it. A pickle is a program: it names functions and classes of any module and has them called. Here every name must
stand on a list that the caller gives, and even then stands for nothing but a `Record`, which keeps the arguments and
the state that the file holds and calls nothing. Only containers, numbers and tensors are rebuilt, by this file alone.

    tree = load_inert("some.model", {"mace.modules.blocks": ("ScaleShiftBlock",)}, "a MACE checkpoint")
    tree.tensor("scale_shift.scale")

A file may also hold a dictionary, of a state_dict for example: `load_inert_dict` reads it. `load_inert_pickle`
reads a file of Python's own pickle in the same way, and `load_inert_package` an archive of torch.package, which has
the source code of its classes beside several pickles; the code is not looked at.
"""

from __future__ import annotations

import pickle
import pickletools
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from atomsml.modelfile.pickle_checks import MOST_BYTES, HostilePickle, check_pickle

_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_MOST_DIMENSIONS = 16  # of a tensor; models have up to 5


class _Refusal(ValueError):
    """A file that asks for more than it needs."""


class Record:
    """An object of the file that was not built: which class it names, the arguments and the state it would have got.

    Paths such as "interactions.0.linear.weight" reach what a torch module holds: attributes, parameters, buffers and
    submodules. Asking for what is not there, or is something else, raises ValueError.
    """

    module: ClassVar[str]  # of the class that the file names
    name: ClassVar[str]
    arguments: tuple[Any, ...]
    state: Any

    def __new__(cls, *arguments: Any) -> Record:
        self = object.__new__(cls)
        self.arguments = arguments
        self.state = {}
        return self

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __contains__(self, path: str) -> bool:
        return self._find(path) is not _MISSING

    def get(self, path: str) -> Any:
        value = self._find(path)
        if value is _MISSING:
            raise ValueError(f"the file's {self.name} has no {path}")
        return value

    def tensor(self, path: str) -> Tensor:
        value = self.get(path)
        if not isinstance(value, StoredTensor):
            raise ValueError(f"{path} in the file's {self.name} is not a tensor")
        return value.values

    def number(self, path: str) -> float:
        """A Python number, or a tensor with one entry."""
        value = self.get(path)
        if isinstance(value, StoredTensor) and value.values.numel() == 1:
            return float(value.values)
        if not isinstance(value, int | float):
            raise ValueError(f"{path} in the file's {self.name} is not a number")
        return float(value)

    def record(self, path: str) -> Record:
        value = self.get(path)
        if not isinstance(value, Record):
            raise ValueError(f"{path} in the file's {self.name} is not an object")
        return value

    def records(self, path: str) -> list[Record]:
        """The submodules of a torch ModuleList, in order."""
        modules = self.record(path)
        count = len(modules.get("_modules")) if "_modules" in modules else 0
        return [modules.record(str(i)) for i in range(count)]

    def _find(self, path: str) -> Any:
        value: Any = self
        for key in path.split("."):
            value = _member(value.state, key) if isinstance(value, Record) else _MISSING
        return value


_MISSING = object()


def _member(state: Any, key: str) -> Any:
    """Look up as torch.nn.Module does; None, with which torch marks an absent parameter, counts as not there."""
    if not isinstance(state, dict):
        return _MISSING
    for table in (state, *(state.get(kind) for kind in ("_parameters", "_buffers", "_modules"))):
        if isinstance(table, dict) and table.get(key) is not None:
            return table[key]
    return _MISSING


class _Fixed:
    """Refuses the pickle instruction that would overwrite an object's attributes."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        raise _Refusal(f"refused: the file tries to alter {type(self).__name__.strip('_')}")


class StoredTensor(_Fixed):
    """A tensor of the file; wrapped, because torch.Tensor itself would accept a pickled state."""

    __slots__ = ("values",)

    def __init__(self, values: Tensor) -> None:
        self.values = values


class _OrderedDict(dict[Any, Any]):
    """Without what torch notes beside the entries of a state_dict: the versions of its modules."""

    def __setstate__(self, state: Any) -> None:
        pass


class _Builder(_Fixed):
    """A function of this module that stands in for one that the file names."""

    __slots__ = ("_build",)

    def __init__(self, build: Callable[..., Any]) -> None:
        self._build = build

    def __call__(self, *arguments: Any) -> Any:
        return self._build(*arguments)


def load_inert(path: str | Path, allowed: Mapping[str, Iterable[str]], what: str) -> Record:
    """The object that torch.save wrote to a file, as a tree of records.

    Args:
        allowed: module -> names of its classes and functions that may become records. The names with which torch
            writes tensors and containers need not be listed.
        what: what such a file is, for the messages: "a MACE checkpoint".

    Raises:
        ValueError: the file is no zip archive of torch.save, is damaged, or asks for a name off the list.
        OSError: the file cannot be read.
    """
    tree = _load(Path(path), allowed, what)
    if not isinstance(tree, Record):
        raise ValueError(f"{path} holds a {type(tree).__name__}, not {what}: a whole saved model is needed")
    return tree


def load_inert_dict(path: str | Path, allowed: Mapping[str, Iterable[str]], what: str) -> dict[Any, Any]:
    """The dictionary that torch.save wrote to a file: its objects are records, its tensors StoredTensor.

    Arguments and errors are those of `load_inert`.
    """
    tree = _load(Path(path), allowed, what)
    if not isinstance(tree, dict):
        raise ValueError(f"{path} holds a {type(tree).__name__}, not {what}: a saved dictionary is needed")
    return tree


def load_inert_pickle(path: str | Path, allowed: Mapping[str, Iterable[str]], what: str) -> Record:
    """The object that Python's pickle, not torch.save, wrote to a file, as a record.

    Arguments and errors are those of `load_inert`.
    """
    path = Path(path)
    with _one_line_errors(path, what):
        if path.stat().st_size > MOST_BYTES:
            raise HostilePickle(f"it has more than {MOST_BYTES} bytes")
        stream = path.read_bytes()
        check_pickle(stream)
        tree = _Names(stream, _pairs(allowed), what).load()
    if not isinstance(tree, Record):
        raise ValueError(f"{path} holds a {type(tree).__name__}, not {what}")
    return tree


def load_inert_package(path: str | Path, pickled: str, allowed: Mapping[str, Iterable[str]], what: str) -> Record:
    """The object in one pickle of an archive of torch.package, such as "model/eager_model.pkl".

    Arguments and errors are otherwise those of `load_inert`.
    """
    with _reading(Path(path), what) as archive:
        tree = _Unpickler(archive, _Layout.of_package(archive, pickled, what), _pairs(allowed), what).load()
    if not isinstance(tree, Record):
        raise ValueError(f"{path} holds a {type(tree).__name__} as {pickled}, not {what}: a model is needed")
    return tree


def is_package(path: str | Path) -> bool:
    """Whether torch.package wrote a file. What is no whole archive is none; other readers say what is wrong with it."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/.data/extern_modules") and name.count("/") == 2 for name in archive.namelist())
    except Exception:  # a damaged index can fail in many ways
        return False


def named_modules(path: str | Path, what: str) -> set[str]:
    """The top-level modules whose classes and functions a file of torch.save names: who wrote it, from its content.

    Nothing is built. Raises what `load_inert` raises for a file that cannot be read.
    """
    with _reading(Path(path), what) as archive:
        operations = pickletools.genops(_read_pickle(archive, _Layout.of_save(archive, what).pickled))
        return {str(name).partition(".")[0] for operation, name, _ in operations if operation.name == "GLOBAL"}


def _load(path: Path, allowed: Mapping[str, Iterable[str]], what: str) -> Any:
    with _reading(path, what) as archive:
        return _Unpickler(archive, _Layout.of_save(archive, what), _pairs(allowed), what).load()


def _pairs(allowed: Mapping[str, Iterable[str]]) -> set[tuple[str, str]]:
    return {(module, name) for module, names in allowed.items() for name in names}


@contextmanager
def _reading(path: Path, what: str) -> Iterator[zipfile.ZipFile]:
    """The archive; what goes wrong with it becomes one line of ValueError."""
    with _one_line_errors(path, what), _open_archive(path, what) as archive:
        yield archive


@contextmanager
def _one_line_errors(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except _Refusal as error:
        raise ValueError(f"{path}: {error}") from None
    except HostilePickle as error:
        raise ValueError(f"{path} asks for more than {what} needs: {error}") from None
    except Exception as error:  # a damaged pickle can fail in any instruction, with any exception
        if isinstance(error, OSError) and error.filename is not None:  # not of a place that the archive's index made up
            raise
        reason = " ".join(str(error)[:200].split()) or type(error).__name__
        raise ValueError(f"{path} is damaged and cannot be read as {what}: {reason}") from None


def _open_archive(path: Path, what: str) -> zipfile.ZipFile:
    with path.open("rb") as file:
        start = file.read(len(_LEGACY_MAGIC))
    if not zipfile.is_zipfile(path):
        if not start:
            reason = "it is empty"
        elif start == _LEGACY_MAGIC:
            reason = "it has the format of torch before 1.6; load it and save it again with a newer torch"
        elif start.startswith(b"PK"):
            reason = "it is cut short; fetch it again"
        else:
            reason = "it is not a zip archive as torch.save writes"
        raise _Refusal(f"cannot be read as {what}: {reason}")
    archive = zipfile.ZipFile(path)
    entries = archive.infolist()
    if any(e.filename.endswith("/constants.pkl") for e in entries):
        raise _Refusal(f"cannot be read as {what}: it is a TorchScript program; the model it was made of is needed")
    # torch stores without compression, so that an honest archive is never larger than its file
    packed = any(e.compress_type != zipfile.ZIP_STORED for e in entries)
    if packed or sum(e.file_size for e in entries) > path.stat().st_size:
        raise _Refusal(f"cannot be read as {what}: its entries are compressed or overlap, as torch.save never writes")
    return archive


@dataclass(frozen=True)
class _Layout:
    """Where an archive has what is needed."""

    pickled: str
    byte_order: str  # absent before torch 2.1
    before_key: str  # of a storage, and what stands behind its key
    behind_key: str

    @staticmethod
    def of_save(archive: zipfile.ZipFile, what: str) -> _Layout:
        names = [n for n in archive.namelist() if n.endswith("/data.pkl") and n.count("/") == 1]
        if len(names) != 1:
            raise _Refusal(f"cannot be read as {what}: the archive has no data.pkl, so torch.save did not write it")
        folder = names[0].removesuffix("data.pkl")
        return _Layout(names[0], f"{folder}byteorder", f"{folder}data/", "")

    @staticmethod
    def of_package(archive: zipfile.ZipFile, pickled: str, what: str) -> _Layout:
        names = [n for n in archive.namelist() if n.endswith(f"/{pickled}") and n.count("/") == pickled.count("/") + 1]
        if len(names) != 1:
            raise _Refusal(f"cannot be read as {what}: the archive has no {pickled}")
        folder = names[0].removesuffix(pickled)
        return _Layout(names[0], f"{folder}byteorder", f"{folder}.data/", ".storage")


def _read_pickle(archive: zipfile.ZipFile, name: str) -> bytes:
    """The instructions of a pickle, which are checked."""
    if archive.getinfo(name).file_size > MOST_BYTES:
        raise HostilePickle(f"its pickle has more than {MOST_BYTES} bytes")
    stream = archive.read(name)
    check_pickle(stream)
    return stream


class _Names(pickle.Unpickler):
    """Of whose names those that are allowed become records, and all others are refused."""

    def __init__(self, stream: bytes, allowed: set[tuple[str, str]], what: str) -> None:
        super().__init__(BytesIO(stream), encoding="utf-8")
        self._allowed = allowed
        self._what = what
        self._classes: dict[tuple[str, str], type[Record]] = {}

    def find_class(self, module: str, name: str) -> Any:
        key = (module, name)
        if key in _BUILDERS:
            return _BUILDERS[key]
        if key not in self._allowed:
            asked = f"{module}.{name}".encode("unicode_escape").decode()[:200]
            count = len(self._allowed | set(_BUILDERS))
            raise _Refusal(
                f"refused: the file asks for {asked}, which is not among the {count} names that {self._what} needs"
            )
        if key not in self._classes:  # one class each, because pickle wants a class where it makes an object
            self._classes[key] = type(name, (Record,), {"module": module, "name": name})
        return self._classes[key]


class _Unpickler(_Names):
    """With the numbers of tensors, which stand in the archive."""

    def __init__(self, archive: zipfile.ZipFile, layout: _Layout, allowed: set[tuple[str, str]], what: str) -> None:
        stream = _read_pickle(archive, layout.pickled)
        if layout.byte_order in archive.namelist() and archive.read(layout.byte_order) != b"little":
            raise _Refusal(f"cannot be read as {what}: its numbers are not little-endian")
        super().__init__(stream, allowed | {("torch", n) for n in _STORAGES} | {("numpy", "dtype")}, what)
        self._archive, self._layout = archive, layout
        self._storages: dict[str | int, StoredTensor] = {}

    def persistent_load(self, pid: Any) -> StoredTensor:
        """The numbers of ("storage", type, key, device, count), wherever they were when the file was written."""
        kind, storage, key, _, count = pid
        if kind != "storage" or not (isinstance(storage, type) and issubclass(storage, Record)):
            raise _Refusal("refused: the file refers to something other than tensor storages")
        if not isinstance(key, str | int) or not isinstance(count, int):  # torch.package numbers them
            raise _Refusal("refused: the file has a tensor storage without a name or a length")
        dtype = _STORAGES[storage.name]
        if key not in self._storages:
            raw = bytearray(self._archive.read(f"{self._layout.before_key}{key}{self._layout.behind_key}"))
            if len(raw) != count * dtype.itemsize:
                raise ValueError(f"storage {key} has {len(raw)} bytes for {count} numbers of type {dtype}")
            values = torch.frombuffer(raw, dtype=dtype) if raw else torch.empty(0, dtype=dtype)
            self._storages[key] = StoredTensor(values)
        return self._storages[key]


def _rebuild_tensor(
    stored: StoredTensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> StoredTensor:
    storage = stored.values
    if len(size) > _MOST_DIMENSIONS:
        raise ValueError(f"a tensor has {len(size)} dimensions, more than {_MOST_DIMENSIONS}")
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    count = torch.Size(size).numel()
    inside = min(offset, *size, *stride, 0) >= 0 and (count == 0 or last < storage.numel()) and count <= storage.numel()
    if not inside:
        raise ValueError(f"a tensor of shape {size} lies outside its storage of {storage.numel()} numbers")
    return StoredTensor(torch.as_strided(storage, size, stride, offset))


def _rebuild_parameter(data: StoredTensor, *_: Any) -> StoredTensor:
    return data


def _rebuild_set(members: Iterable[Any] = ()) -> set[Any]:
    """Of members that hash at once: a nested tuple can take for ever."""
    members = list(members)
    if not all(isinstance(x, str | bytes | int | float) for x in members):
        raise _Refusal("refused: the file has a set of something other than text and numbers")
    return set(members)


def _rebuild_ordered_dict() -> _OrderedDict:
    """Empty, as torch writes it: the entries are set afterwards, by an instruction of their own."""
    return _OrderedDict()


def _rebuild_bytes(text: str, encoding: str) -> bytes:
    """How protocol 2 writes bytes: as text of the first 256 characters."""
    if encoding != "latin1":
        raise ValueError(f"bytes in the unexpected encoding {encoding}")
    return text.encode("latin1")


def _rebuild_scalar(dtype: Record, data: bytes) -> float | int:
    """A NumPy scalar as a Python number."""
    code = {"f8": torch.float64, "f4": torch.float32, "i8": torch.int64, "i4": torch.int32}[dtype.arguments[0]]
    return torch.frombuffer(bytearray(data), dtype=code, count=1).item()


_BUILDERS = {
    ("builtins", "set"): _Builder(_rebuild_set),
    ("__builtin__", "set"): _Builder(_rebuild_set),  # its name in the pickle protocol of torch.save
    ("collections", "OrderedDict"): _Builder(_rebuild_ordered_dict),
    ("torch", "Size"): _Builder(tuple),
    ("_codecs", "encode"): _Builder(_rebuild_bytes),
    ("torch._utils", "_rebuild_tensor_v2"): _Builder(_rebuild_tensor),
    ("torch._utils", "_rebuild_parameter"): _Builder(_rebuild_parameter),
    ("torch._utils", "_rebuild_parameter_with_state"): _Builder(_rebuild_parameter),
    ("numpy.core.multiarray", "scalar"): _Builder(_rebuild_scalar),
    ("numpy._core.multiarray", "scalar"): _Builder(_rebuild_scalar),
}
