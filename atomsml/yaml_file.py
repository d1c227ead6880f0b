"""YAML as people write it for this toolkit: what PyYAML's SafeLoader reads, without keys that stand twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

DEEPEST = 30  # mappings and lists within one another


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses a key that stands twice in a mapping, of which the last would win, and deep nesting."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        if self.depth > DEEPEST:
            raise yaml.YAMLError("nested too deeply")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            first, line = lines.get((key.tag, key.value)), key.start_mark.line + 1
            if first is not None:
                raise yaml.YAMLError(f"the key {key.value!r} stands twice, on lines {first} and {line}")
            lines[key.tag, key.value] = line
        return super().construct_mapping(node, deep)


def parse_yaml(text: str) -> Any:
    """The value of a YAML text.

    Raises:
        ValueError: no YAML, a key that stands twice in a mapping, or nesting deeper than DEEPEST.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, LookupError) as error:  # of damaged tags, anything
        raise ValueError(" ".join(str(error).split())) from None


def read_mapping(path: str | Path) -> dict[Any, Any]:
    """The keys and values of a YAML file.

    Raises:
        ValueError: not a YAML file, or not one of keys and values.
        OSError: the file cannot be read.
    """
    try:
        values = parse_yaml(Path(path).read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{path} is not a YAML file: {error}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path} must consist of `key: value` lines")
    return values
