"""Frozen config dataclasses from plain JSON or YAML values, checked key by key and type by type."""

from __future__ import annotations

import dataclasses
import difflib
import math
import reprlib
import types
import typing
from collections.abc import Iterable, Sequence
from typing import Any

# Lowest and highest value of the numbers in the configs of models, by name: the same word means the same in all.
# Wide enough for any model, narrow enough that no table takes hours and no power or product overflows.
BOUNDS: dict[str, tuple[float, float]] = {
    "elements": (1, 118),
    "cutoff": (0.1, 100),
    "inner_cutoff": (0, 100),
    "core": (0, 1),
    "xplor_onset": (0, 100),
    "coordinate_range": (1e-4, 1e4),
    "avg_num_neighbors": (1e-4, 1e5),
    "scale": (1e-9, 1e6),
    "shift": (-1e6, 1e6),
    "element_scale": (1e-4, 1e4),
    "number_scale": (1e-4, 1e4),
    "extra_dimensions": (1e-2, 1e9),
    "envelope_power": (1, 100),
    "lmax": (0, 8),
    "mmax": (0, 8),
    "hidden_lmax": (0, 8),
    "correlation": (1, 6),
    "order": (1, 6),
    "num_layers": (1, 32),
    "num_sublayers": (1, 8),
    "num_heads": (1, 1024),
    "head_channels": (1, 8192),
    "query_points": (1, 1024),
    "value_points": (1, 1024),
    "num_bessel": (1, 1024),
    "num_splines": (0, 1024),
    "num_gaussians": (2, 8192),
    "num_mixtures": (1, 1024),
    "num_peaks": (1, 1024),
    "gaussian_width": (1e-2, 1e2),
    "num_sphere_points": (1, 4096),
    "grid_resolution": (0, 256),
    "channels": (1, 8192),
    "embedding_channels": (1, 8192),
    "edge_channels": (0, 8192),
    "grid": (1, 256),
    "grid_channels": (1, 8192),
    "pointwise_channels": (1, 8192),
    "hidden_channels": (1, 8192),
    "attention_channels": (1, 8192),
    "alpha_channels": (1, 8192),
    "value_channels": (1, 8192),
    "ffn_channels": (1, 8192),
    "readout_channels": (1, 8192),
    "radial_mlp": (1, 8192),
    "pair_channels": (1, 8192),
    "triangle_channels": (1, 8192),
    "vectors": (1, 8192),
    "hidden": (1, 8192),
    "num_kinds": (0, 10**4),
    "num_formulas": (0, 10**6),
    "num_sets": (0, 10**6),
    "longest": (1, 2048),  # residues of a chain
    "num_timesteps": (1, 10**5),
    "condition_dropout": (0, 1),
    "attention_dropout": (0, 0.99),
    "drop_path": (0, 0.99),
    "projection_dropout": (0, 0.99),
    "readout_dropout": (0, 0.99),
    "avg_num_atoms": (1e-3, 1e6),
}
ANY_NUMBER = (-1e12, 1e12)  # of a field with another name, in an architecture of another package
MOST_ENTRIES = 118  # of a list


def config_from_json(config_class: type[Any], values: Any, by_hand: bool = False, where: str = "") -> Any:
    """Rebuild a config dataclass from the dict that `dataclasses.asdict` and JSON made of it: lists become tuples.

    A missing key takes its default. Model files that are older than a field lack it: the default of a field that is
    added to a config must mean what the program did before, and go on meaning it. In what people write `by_hand`,
    numbers may be text.

    Raises:
        ValueError: an unknown key, a missing one without a default, a value of the wrong type, or what the dataclass
            itself refuses; names the key with its path, as in `loss.energy`.
    """
    if not isinstance(values, dict):
        kind = "keys with values" if where else "a JSON object"
        raise ValueError(f"the config {where and repr(where) + ' '}must be {kind}, got {reprlib.repr(values)}")
    hints = typing.get_type_hints(config_class)
    fields = {field.name: field for field in dataclasses.fields(config_class)}
    prefix = f"{where}." if where else ""
    unknown = [f"{prefix}{key}" for key in sorted(map(str, set(values) - set(fields)))]
    if unknown:
        hint = did_you_mean(unknown[0].removeprefix(prefix), fields)
        raise ValueError(
            f"unknown config keys {reprlib.repr(unknown)}; {hint}{config_class.__qualname__} has {list(fields)}"
        )
    missing = [prefix + name for name in sorted(set(fields) - set(values)) if not _optional(fields[name])]
    if missing:
        raise ValueError(f"the config lacks the keys {missing}")
    typed = {name: _typed(prefix + name, hints[name], value, by_hand) for name, value in values.items()}
    return config_class(**typed)


def choose(kind: str, word: str, known: Iterable[str]) -> str:
    """The known word that is meant, in whichever case it was written.

    Raises:
        ValueError: there is no such `kind` of thing; lists the known words, the one most like it first.
    """
    words = list(known)
    for each in words:
        if each.lower() == word.lower():
            return each
    raise ValueError(f"unknown {kind} {word!r}; {did_you_mean(word, words)}there are {', '.join(words)}")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The part of an error message that offers the known word most like an unknown one; empty where none is."""
    by_lower = {each.lower(): each for each in known}
    near = difflib.get_close_matches(word.lower(), by_lower, n=1)
    return f"did you mean {by_lower[near[0]]!r}? " if near else ""


def check_hyperparameters(config: Any, positive: Sequence[str], at_most: dict[str, int]) -> None:
    """What every architecture asks of its config: a sound `elements`, and fields within bounds.

    Upper bounds are there because a model file must not ask for tables that take hours.

    Raises:
        ValueError: names the field, the rule and the value.
    """
    elements = config.elements
    if not elements or list(elements) != sorted(set(elements)):
        raise ValueError(f"elements must be distinct atomic numbers in ascending order, got {reprlib.repr(elements)}")
    if not 1 <= elements[0] <= elements[-1] <= 118:
        raise ValueError(f"elements must be atomic numbers from 1 to 118, got {reprlib.repr(elements)}")
    for name, largest in at_most.items():
        if getattr(config, name) > largest:
            raise ValueError(f"{name} must be at most {largest}, got {reprlib.repr(getattr(config, name))}")
    for name in positive:
        if not getattr(config, name) > 0:
            raise ValueError(f"{name} must be positive, got {reprlib.repr(getattr(config, name))}")
    check_bounds(config)


def refuse_unread(config: Any, names: Iterable[str], setting: str) -> None:
    """Refuse hyperparameters that have no meaning with a setting of another one, lest somebody thinks that they count.

    Raises:
        ValueError: a field of `names` has not its default.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    for name in names:
        if getattr(config, name) != defaults[name]:
            raise ValueError(f"{name} is not read with {setting}; leave it out")


def check_bounds(config: Any) -> None:
    """Every number of a model's config lies within BOUNDS, and every list is short.

    Raises:
        ValueError: names the field, the rule and the value.
    """
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            check_bounds(value)
            continue
        entries = value if isinstance(value, tuple) else (value,)
        if len(entries) > MOST_ENTRIES:
            raise ValueError(f"{field.name} must have at most {MOST_ENTRIES} entries, got {len(entries)}")
        low, high = BOUNDS.get(field.name, ANY_NUMBER)
        for entry in entries:
            if isinstance(entry, int | float) and not low <= entry <= high:
                raise ValueError(f"{field.name} must lie between {low:g} and {high:g}, got {reprlib.repr(entry)}")


def _optional(field: dataclasses.Field[Any]) -> bool:
    return not (field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING)


def _typed(name: str, hint: Any, value: Any, by_hand: bool) -> Any:
    """`value` as the type that a config field declares."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return config_from_json(typing.cast(type[Any], hint), value, by_hand, name)
    if origin is tuple and isinstance(value, list):
        if arguments[-1] is Ellipsis:
            return tuple(_typed(name, arguments[0], item, by_hand) for item in value)
        if len(arguments) == len(value):
            return tuple(_typed(name, *pair, by_hand) for pair in zip(arguments, value, strict=True))
    elif origin is dict and isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _typed(f"{name}.{key}", arguments[1], item, by_hand) for key, item in value.items()}
    elif origin is typing.Literal and isinstance(value, str):
        return choose(f"value of config key {name!r}:", value, arguments)
    elif origin in (types.UnionType, typing.Union):
        return _first_fitting(name, arguments, value, by_hand)
    elif hint is Any:
        return value
    elif hint is float:
        number = _number(value, by_hand)
        if number is not None:
            return number
    elif hint in (bool, int, str, type(None)) and type(value) is hint:  # type, not isinstance: True is no int here
        return value
    wanted = getattr(hint, "__name__", str(hint)) if origin is None else str(hint)
    raise ValueError(f"config key {name!r} must be {wanted}, got {reprlib.repr(value)}")


def _first_fitting(name: str, alternatives: tuple[Any, ...], value: Any, by_hand: bool) -> Any:
    """`value` as the first of several types that takes it; the error is that of the first that is not None."""
    if value is None and type(None) in alternatives:
        return None
    errors = []
    for alternative in alternatives:
        if alternative is not type(None):
            try:
                return _typed(name, alternative, value, by_hand)
            except ValueError as error:
                errors.append(error)
    raise errors[0]


def _number(value: Any, by_hand: bool) -> float | None:
    """A finite number; in what people write also as text, because YAML 1.1 takes 1e-3, without a point, for text."""
    if by_hand and type(value) is str:
        try:
            value = float(value)
        except ValueError:
            return None
    if type(value) not in (int, float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # an integer beyond 1e308
        return None
