"""The program in docs/generators/generative.md runs as it stands and generates what it says."""

import re
from abc import ABC
from importlib import import_module
from pathlib import Path

import pytest
import torch

from atomsml.generative.core import processes, samplers, spaces
from atomsml.generative.core.processes import PROCESSES
from atomsml.generative.core.samplers import SAMPLERS
from atomsml.generative.core.spaces import SPACES

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "generators" / "generative.md").read_text()


def test_the_example_generates_water():
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    with torch.random.fork_rng():
        names = {}
        exec(code, names)
    x = names["molecules"]["positions"]
    bonds = (x[:, 1:] - x[:, :1]).norm(dim=2)
    # thermal motion of both atoms: 0.1 sqrt(2) A along the bond, and across it, which lengthens it by 0.02 / 0.96 A
    assert abs(float(bonds.mean()) - 0.98) < 0.06
    assert 0.07 < float(bonds.std()) < 0.21
    assert x.sum(1).abs().max() < 1e-5


def test_the_page_names_every_sampler():
    assert set(SAMPLERS) == set(re.findall(r"^\| `([a-z-]+)` \|", PAGE, re.MULTILINE))


def test_the_page_names_every_space_and_every_process():
    known = {each.__name__ for each in (*SPACES.values(), *PROCESSES.values())}
    assert set(re.findall(r"`([A-Z]\w+)\(", PAGE)) - {"SampleNoise"} == known


@pytest.mark.parametrize(
    ("named", "room", "base"),
    [
        (SPACES, spaces, spaces.base.Space),
        (PROCESSES, processes, processes.base.Process),
        (SAMPLERS, samplers, samplers.base.Sampler),
    ],
)
def test_the_dicts_leave_nothing_out(named, room, base):
    """Of the classes of all files of the folder, those that can be instantiated and do something."""
    modules = [import_module(f"{room.__name__}.{file.stem}") for file in Path(room.__path__[0]).glob("[a-z]*.py")]
    classes = {each for module in modules for each in vars(module).values() if isinstance(each, type)}
    found = {each for each in classes if each.__module__.startswith(f"{room.__name__}.")}
    final = {each for each in found if issubclass(each, base) and ABC not in each.__bases__}
    assert set(named.values()) == final
