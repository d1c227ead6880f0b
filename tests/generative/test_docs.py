"""The program in docs/generative.md runs as it stands and generates what it says."""

import re
from pathlib import Path

import torch

from atomsml.generative.core import processes, samplers, spaces

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "generative.md").read_text()


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
    assert set(samplers.SAMPLERS) == set(re.findall(r"^\| `([a-z-]+)` \|", PAGE, re.MULTILINE))


def test_what_the_page_names_exists():
    """Spaces and processes of the tables, by the classes that the files define."""
    sources = "".join(f.read_text() for room in (spaces, processes) for f in Path(room.__path__[0]).glob("*.py"))
    named = set(re.findall(r"`([A-Z]\w+)\(", PAGE)) - {"SampleNoise"}
    assert named <= set(re.findall(r"^class (\w+)", sources, re.MULTILINE))
