"""The integrator of the guide holds the temperature and conserves what it says."""

import re
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk

from atomsml.simulate.md import md
from atomsml.simulate.model import Model
from atomsml.testing.model_potentials import LennardJones

GUIDE = Path(__file__).parents[4] / "docs" / "simulation.md"


def test_ten_lines_make_an_integrator():
    (block,) = [
        text for text in re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL) if "Berendsen" in text
    ]
    argon = [bulk("Ar", "fcc", 5.3, cubic=True)]
    model = Model(LennardJones(onset=3.9, cutoff=4.8), 4.8)
    names = {"md": md, "molecules": argon, "model": model}
    exec(compile(block, str(GUIDE), "exec"), names)
    frames = list(md(argon, model, names["Berendsen"](), steps=400, temperature=50.0))
    conserved = np.array([frame.conserved.item() for frame in frames])
    assert np.ptp(conserved) < 1e-4  # eV; the heat is a thousand times as much
    assert frames[-1].memory.heat.item() > 0.1
    assert names["last"].state.step.tolist() == [200]
    assert frames[-1].temperature.item() == pytest.approx(300, rel=0.3)
