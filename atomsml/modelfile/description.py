"""What a model file says about itself.

A file is one .safetensors: weights, and one JSON that says what they are.

Its metadata key "atomsml" holds the JSON object; `potential` fills the first block, the caller the rest:

| key | meaning |
|---|---|
| format | version of this layout |
| architecture, config | which class of `atomsml.potentials.POTENTIALS`; fields of its `Config`, or their defaults |
| package | which package has the architecture, where that is not atomsml; absent otherwise |
| elements, references | symbols, and one energy per element, eV |
| cutoff, parameters | neighbour cutoff in Angstrom, and number of trainable parameters |
| charge, spin | total charge in e and multiplicity 2S + 1 for which the energies hold; null or absent: not stated |
| name, kind, references_kind | what `atomsml models` shows; "isolated atoms", "least squares" or "given" |
| note | one line that every run with the model repeats, on stderr or in its summary; absent from most |
| theory, data, licence, citation | what the labels are, and what users owe to whom: `atomsml models` shows it |
| training, metrics, ... | anything JSON can hold |

Nothing in a file is executed. A file is not trusted either: keys, types and bounds of the config are checked, a model
that would need far more memory than its file holds numbers is not built, names, types and shapes of the tensors must be
those of the model, their numbers finite, and elements, references and cutoff above those of config and tensors.

A generator is kept in the same way, by `atomsml.generative.core.modelfile`: its key `generates` says what it draws, its
architecture is one of `atomsml.generative.GENERATORS`, and it has neither references nor a cutoff.
"""

from __future__ import annotations

import json
import re
import reprlib
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import nn

from atomsml.architectures import Architectures
from atomsml.config import check_bounds, config_from_json
from atomsml.electronic_state import ElectronicState
from atomsml.modelfile.catalogue import find_model

FORMAT = 1
LARGEST = 1000  # charge or spin of a structure for which somebody has a model

_KIND = re.compile(r"[a-z0-9-]{1,40}")  # a word of the command line
_PACKAGE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?")  # a file is not trusted with more than a name
_REQUIRED_KEYS = ("format", "architecture", "config")
_REQUIRED_OF_POTENTIALS = (*_REQUIRED_KEYS, "elements", "references", "cutoff")


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
    required = _REQUIRED_OF_POTENTIALS if generated_kind(description) is None else _REQUIRED_KEYS
    missing = [key for key in required if key not in description]
    if missing or version != FORMAT:
        what = f"lacks {', '.join(missing)}" if missing else f"has an unknown format {reprlib.repr(version)}"
        raise ValueError(f"model file {path}: its metadata {what}")
    return description


def generated_kind(description: dict[str, Any]) -> str | None:
    """What a model draws, as "molecules"; None for a potential."""
    if description.get("kind") == "molecule generator":  # as files of 0.1.0 have it
        return "molecules"
    kind = description.get("generates")
    return kind if isinstance(kind, str) and _KIND.fullmatch(kind) else None


def known_architecture(path: Path, description: dict[str, Any], known: Architectures[Any]) -> str:
    """The architecture that a file names.

    Raises:
        ValueError: it is none of the known ones; names the package that has it, if the file does.
    """
    architecture, package = description["architecture"], description.get("package")
    if isinstance(architecture, str) and architecture in known:
        return architecture
    if isinstance(package, str) and _PACKAGE.fullmatch(package):
        raise ValueError(f"model file {path} needs the package {package}: pip install {package}")
    raise ValueError(
        f"model file {path} has an unknown architecture {reprlib.repr(architecture)}; "
        f"this atomsml has {', '.join(known)}"
    )


def architecture_of(model: nn.Module, known: Architectures[Any]) -> dict[str, str]:
    """The keys by which `known_architecture` will find the class of a model.

    Raises:
        ValueError: it is none of the known ones.
    """
    name = known.name_of(type(model))
    package = known.package(name)
    return {"architecture": name} if package is None else {"architecture": name, "package": package}


def checked_config(path: Path, description: dict[str, Any], config_class: type[Any]) -> Any:
    """The config that a file holds.

    Raises:
        ValueError: unknown keys, wrong types, numbers out of bounds, or what the config class itself refuses.
    """
    try:
        config = config_from_json(config_class, description["config"])
        check_bounds(config)
        return config
    except ValueError as error:
        raise ValueError(f"model file {path}: {first_line(error)}") from None


def checked_state(path: Path, description: dict[str, Any]) -> ElectronicState:
    """The total charge and the spin for which a file says that its potential holds.

    Raises:
        ValueError: anything but small whole numbers, or a multiplicity below 1.
    """
    charge, spin = description.get("charge"), description.get("spin")
    for name, value, lowest in (("charge", charge, -LARGEST), ("spin", spin, 1)):
        if value is not None and not (type(value) is int and lowest <= value <= LARGEST):
            raise ValueError(
                f"model file {path}: its {name} must be null or a whole number from {lowest} to {LARGEST}, "
                f"got {reprlib.repr(value)}"
            )
    return ElectronicState(charge, spin)


def _unreadable(path: Path, reason: str) -> str:
    if "not fully covered" in reason:
        return f"model file {path} is truncated or damaged; copy it again"
    return (
        f"{path} is not a .safetensors model file; "
        "an official MACE .model file is read by `atomsml convert FILE -o FILE.safetensors`"
    )


def first_line(error: Exception) -> str:
    """torch adds pages to its messages."""
    return str(error).partition("\n")[0]
