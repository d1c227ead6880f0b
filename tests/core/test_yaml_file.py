"""YAML that people write: PyYAML's values, without keys that stand twice and without depth."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from atomsml.yaml_file import parse_yaml, read_mapping

TEXT = """
data: {train: [a.xyz, b.xyz], valid: 0.1}
base: &base {rate: 1e-3, on: true}
more: {<<: *base, rate: 2}
none:
"""


def test_values_are_those_of_the_safe_loader() -> None:
    assert parse_yaml(TEXT) == yaml.safe_load(TEXT)
    assert parse_yaml("[1, a]") == [1, "a"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 1", "the key 'a' stands twice, on lines 1 and 3"),
        ("loss:\n  forces: 1\n  forces: 2", "the key 'forces' stands twice, on lines 2 and 3"),
        ("x: {a: 1, a: 2}", "the key 'a' stands twice, on lines 1 and 1"),
        ("x: " + 3000 * "[" + 3000 * "]", "nested too deeply"),
        ("x: " + 3000 * "{a: ", "nested too deeply"),
        ("x: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("x: !!int ''", "."),
        ("x: !!bool maybe", "."),
        ("x: !!timestamp soon", "."),
        ("x: 2001-99-99", "."),
        ("x: [", "while parsing"),
    ],
)
def test_what_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        parse_yaml(text)
    assert "\n" not in str(error.value)


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\n")  # as Windows editors begin a file
    assert read_mapping(path) == {"a": 1}
    for content, message in ((b"- a", "must consist of `key: value` lines"), (b"\xff", "is not a YAML file")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            read_mapping(path)
