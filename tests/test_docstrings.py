"""The examples in docstrings run and give what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# by dotted names: a path would import the rooms a second time, under another name
MODULES = [
    path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
    for room in ("atomsml", "potentials", "generative")
    for path in sorted((ROOT / room).rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]
WITH_EXAMPLES = [name if name.startswith("atomsml.") else f"atomsml.{name}" for name in MODULES]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples(name):
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted > 0
    assert found.failed == 0


def test_the_most_used_names_have_examples():
    entry = {"graph", "potential", "interfaces.ase", "interfaces.predict", "modelfile.load", "neighbors.lists"}
    assert {f"atomsml.{name}" for name in (*entry, "simulate.relax", "io.molecules")} <= set(WITH_EXAMPLES)
