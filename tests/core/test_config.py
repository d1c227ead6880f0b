"""Config dataclasses from JSON and YAML values."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import pytest

from atomsml.config import config_from_json


@dataclass(frozen=True)
class EveryKind:
    numbers: tuple[int, ...]
    pair: tuple[float, str]
    nested: tuple[tuple[int, int], ...]
    kind: Literal["none", "agnesi"]
    maybe: float | None
    absent: float | None
    flag: bool
    name: str = "x"


def test_configs_round_trip_through_json():
    config = EveryKind((1, 2), (0.1, "a"), ((1, 2), (3, 4)), "agnesi", 1.5, None, True)
    again = config_from_json(EveryKind, json.loads(json.dumps(asdict(config))))
    assert again == config
    assert type(again.nested[0]) is tuple


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("kind", "cubic"),
        ("kind", ["none"]),
        ("pair", [0.1]),
        ("maybe", "1.5"),
        ("flag", 1),
        ("name", None),
        ("numbers", 3),
    ],
)
def test_configs_of_the_wrong_type(key, value):
    values = json.loads(json.dumps(asdict(EveryKind((1,), (0.1, "a"), (), "none", None, None, False))))
    with pytest.raises(ValueError, match=f"config key '{key}'"):
        config_from_json(EveryKind, values | {key: value})


@dataclass(frozen=True)
class Inner:
    rate: float = 0.1
    steps: int | None = None


@dataclass(frozen=True)
class Outer:
    inner: Inner = field(default_factory=Inner)
    parts: tuple[Inner, ...] | float = 0.5
    energies: dict[str, float] = field(default_factory=dict)
    anything: dict[str, Any] = field(default_factory=dict)


def test_what_people_write_may_leave_out_defaults() -> None:
    values = {"inner": {"rate": "1e-3"}, "parts": [{"steps": 3}], "energies": {"H": -13.6}, "anything": {"a": [1]}}
    assert config_from_json(Outer, values, by_hand=True) == Outer(
        Inner(0.001), (Inner(steps=3),), {"H": -13.6}, {"a": [1]}
    )
    assert config_from_json(Outer, {"parts": 1}, by_hand=True).parts == 1.0
    with pytest.raises(ValueError, match=r"config key 'inner\.rate' must be float, got '1e-3'"):
        config_from_json(Outer, values)


def test_missing_keys_take_their_defaults_where_there_are_any() -> None:
    values = json.loads(json.dumps(asdict(EveryKind((1,), (0.1, "a"), (), "none", None, None, False, "y"))))
    del values["name"]  # as in a file that is older than the field
    assert config_from_json(EveryKind, values).name == "x"
    del values["flag"], values["kind"]
    with pytest.raises(ValueError, match=r"the config lacks the keys \['flag', 'kind'\]"):
        config_from_json(EveryKind, values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"iner": {}}, "unknown config keys .'iner'.; did you mean 'inner'"),
        ({"inner": {"rat": 1}}, "unknown config keys .'inner.rat'.; did you mean 'rate'"),
        ({"inner": {"rate": "fast"}}, "config key 'inner.rate' must be float, got 'fast'"),
        ({"inner": 3}, "the config 'inner' must be keys with values"),
        ({"energies": {"H": "x"}}, "config key 'energies.H' must be float"),
        ({"inner": {"rate": float("nan")}}, "config key 'inner.rate' must be float, got nan"),
    ],
)
def test_errors_name_the_key_with_its_path(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config_from_json(Outer, values, by_hand=True)
