"""Save and load potentials as one .safetensors file: weights, and one JSON that says what they are.

The file's metadata key "atomsml" holds the JSON object; `potential` fills the first block, the caller the rest:

| key | meaning |
|---|---|
| format | version of this layout |
| architecture, config | which class of `atomsml.potentials.POTENTIALS`; fields of its `Config`, or their defaults |
| elements, references | symbols, and one energy per element, eV |
| cutoff, parameters | neighbour cutoff in Angstrom, and number of trainable parameters |
| name, kind, references_kind | what `atomsml models` shows; "isolated atoms", "least squares" or "given" |
| training, metrics, licence, ... | anything JSON can hold |

Nothing in a file is executed. A file is not trusted either: keys and types of the config are checked, a model that
would need far more memory than its file holds numbers is not built, and names, types and shapes of the tensors must be
those of the model.

A generator is kept in the same way, by `atomsml.generative.modelfile`: its `kind` is GENERATOR, its architecture one
of `atomsml.generative.GENERATORS`, and it has neither references nor a cutoff.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import reprlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import nn
from torch.overrides import TorchFunctionMode

from atomsml.config import config_from_json
from atomsml.potential import Potential

FORMAT = 1
MODELS_FOLDER = Path(__file__).parent / "models"

GENERATOR = "molecule generator"  # the kind of a model that draws molecules; any other is a potential

Model = TypeVar("Model", bound=nn.Module)

_REQUIRED_KEYS = ("format", "architecture", "config", "elements")
_REQUIRED_OF_POTENTIALS = (*_REQUIRED_KEYS, "references", "cutoff")
_DTYPES = {"F32": torch.float32, "F64": torch.float64, "I64": torch.int64, "I32": torch.int32, "BOOL": torch.bool}


def save(potential: Potential, path: str | Path, metadata: dict[str, Any]) -> None:
    """Write a potential and its description; the file appears under `path` only once it is complete.

    What the potential itself says (architecture, config, elements, references, cutoff) wins over `metadata`, so that
    the metadata of the model from which a training started can be passed on.

    Raises:
        ValueError: an architecture that could not be loaded again, or metadata that JSON cannot hold.
        OSError: the file cannot be written.
    """
    about = {"name": Path(path).stem, "kind": "unspecified", "references_kind": "given"}
    write_model(potential, path, {**about, **metadata, **_describe(potential)})


def load(name_or_path: str | Path, device: torch.device | str = "cpu") -> Potential:
    """The potential of an embedded name or of a file, in the precision in which it was saved, ready to evaluate.

    Raises:
        ValueError: no such model, one that is no potential, or a file that is no (complete, known, consistent) model
            file; says which.
    """
    path = find_model(name_or_path)
    description = read_metadata(path)
    if description.get("kind") == GENERATOR:
        raise ValueError(
            f"{name_or_path} is a {GENERATOR}, not a potential; draw molecules with `atomsml generate molecules "
            f"--model {name_or_path}`, or choose a potential (`atomsml models` lists both)"
        )
    model_class, config = _architecture(path, description)
    potential = build_within_budget(path, lambda: model_class(config))
    potential.cast(check_tensors(path, potential))
    load_tensors(path, potential)
    return potential.eval().to(device)


def write_model(model: nn.Module, path: str | Path, description: dict[str, Any]) -> None:
    """Write the tensors and the description of any model; the file appears under `path` only once it is complete.

    Raises:
        ValueError: a description that JSON cannot hold.
        OSError: the file cannot be written.
    """
    from atomsml.io import write_atomically

    try:
        text = json.dumps(description, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"model metadata must be plain JSON without NaN: {error}") from None
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    # not save_file, which makes files that no other user may read
    content = serialize(tensors, metadata={"atomsml": text})
    write_atomically(path, lambda beside: beside.write_bytes(content))


def build_within_budget(path: Path, build: Callable[[], Model]) -> Model:
    """What `build` makes, unless it asks for far more memory than the file at `path` holds numbers.

    Raises:
        ValueError: it does, or the model refuses its config.
    """
    try:
        with torch.random.fork_rng(devices=[]), _Budget(4 * path.stat().st_size + 10_000_000):
            return build()
    except (ValueError, TypeError, OverflowError, RuntimeError) as error:  # torch uses them all
        raise ValueError(f"model file {path} has an impossible config: {_first_line(error)}") from None


def load_tensors(path: Path, model: nn.Module) -> None:
    """Put the tensors of a file, which `check_tensors` has compared, into a model."""
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name).clone() for name in model.state_dict()}
    model.load_state_dict(tensors, assign=True)  # as they were saved; copies could round float64 buffers


def read_metadata(name_or_path: str | Path) -> dict[str, Any]:
    """What a model file says about itself (the table above); reads the header only.

    Raises:
        ValueError: no such model, not a complete .safetensors file, or one that atomsml did not write.
    """
    path = find_model(name_or_path)
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("atomsml")
    except SafetensorError as error:
        raise ValueError(_unreadable(path, str(error))) from None
    if text is None:
        raise ValueError(f"{path} is a .safetensors file without atomsml metadata; it was not written by atomsml")
    try:
        description = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"model file {path} has metadata that is no valid JSON") from None
    if not isinstance(description, dict):
        raise ValueError(f"model file {path} has metadata that is no JSON object")
    version = description.get("format")
    if isinstance(version, int) and version > FORMAT:
        raise ValueError(f"model file {path} has format {version}, this atomsml reads up to {FORMAT}; update atomsml")
    required = _REQUIRED_KEYS if description.get("kind") == GENERATOR else _REQUIRED_OF_POTENTIALS
    missing = [key for key in required if key not in description]
    if missing or version != FORMAT:
        what = f"lacks {', '.join(missing)}" if missing else f"has an unknown format {reprlib.repr(version)}"
        raise ValueError(f"model file {path}: its metadata {what}")
    return description


def embedded_models() -> dict[str, Path]:
    """The models that come with atomsml, by name; each has a card NAME.md beside its file."""
    return {path.stem: path for path in sorted(MODELS_FOLDER.glob("*.safetensors"))}


def find_model(name_or_path: str | Path) -> Path:
    """The file of an embedded name, or the path itself where such a file exists.

    Raises:
        ValueError: neither; lists the embedded names.
    """
    embedded = embedded_models()
    if str(name_or_path) in embedded:
        return embedded[str(name_or_path)]
    path = Path(name_or_path)
    if not path.is_file():
        names = ", ".join(embedded) or "none"
        raise ValueError(f"unknown model {str(name_or_path)!r}: no such file, and the embedded models are: {names}")
    return path


def model_hash(name_or_path: str | Path) -> str:
    """SHA-256 of the model file, hexadecimal: what a summary records so that a run can be traced to its weights."""
    with find_model(name_or_path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _describe(potential: Potential) -> dict[str, Any]:
    from ase.data import chemical_symbols

    from atomsml.potentials import POTENTIALS

    names = [name for name, model_class in POTENTIALS.items() if type(potential) is model_class]
    if not names:
        raise ValueError(
            f"cannot save a {type(potential).__name__}: atomsml.potentials.POTENTIALS, from which files are loaded, "
            f"has only {', '.join(POTENTIALS)}"
        )
    symbols = [chemical_symbols[z] for z in potential.elements]
    return {
        "format": FORMAT,
        "architecture": names[0],
        "config": dataclasses.asdict(potential.config),
        "elements": symbols,
        "references": dict(zip(symbols, potential.references.tolist(), strict=True)),
        "cutoff": potential.cutoff,
        "parameters": sum(parameter.numel() for parameter in potential.parameters()),
    }


def _architecture(path: Path, description: dict[str, Any]) -> tuple[type[Potential], Any]:
    """The class and the checked config that a file names."""
    from atomsml.potentials import POTENTIALS

    name = known_architecture(path, description, POTENTIALS)
    return POTENTIALS[name], checked_config(path, description, POTENTIALS[name].Config)


def known_architecture(path: Path, description: dict[str, Any], known: Iterable[str]) -> str:
    """The architecture that a file names.

    Raises:
        ValueError: it is none of the known ones.
    """
    architecture = description["architecture"]
    if not isinstance(architecture, str) or architecture not in known:
        raise ValueError(
            f"model file {path} has an unknown architecture {reprlib.repr(architecture)}; "
            f"this atomsml has {', '.join(known)}"
        )
    return architecture


def checked_config(path: Path, description: dict[str, Any], config_class: type[Any]) -> Any:
    """The config that a file holds.

    Raises:
        ValueError: unknown keys, wrong types, or what the config class itself refuses.
    """
    try:
        return config_from_json(config_class, description["config"])
    except ValueError as error:
        raise ValueError(f"model file {path}: {_first_line(error)}") from None


class _Budget(TorchFunctionMode):
    """Refuses to make tensors of more than so many elements together.

    Each factory call is first tried on torch's meta device, where a tensor has a size but no memory.
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
            self.left -= function(*args, **described).numel()
            if self.left < 0:
                raise ValueError("the model would be far larger than its file")
        return function(*args, **kwargs)


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


def _unreadable(path: Path, reason: str) -> str:
    if "not fully covered" in reason:
        return f"model file {path} is truncated or damaged; copy it again"
    return (
        f"{path} is not a .safetensors model file; "
        "an official MACE .model file is read by `atomsml convert FILE -o FILE.safetensors`"
    )


def _first_line(error: Exception) -> str:
    """torch adds pages to its messages."""
    return str(error).partition("\n")[0]
