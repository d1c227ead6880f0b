"""`atomsml eos`: its numbers are those of the library."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import ase.io
import pytest
from ase.build import bulk

from atomsml import AtomsMLCalculator
from atomsml.properties.engine import Engine
from atomsml.properties.eos import EosSettings, equations_of_state

Run = Callable[..., Any]


def test_is_what_the_library_finds(run: Run) -> None:
    ase.io.write("W.cif", bulk("W"))
    [record] = json.loads(run("eos", "W.cif", "--form", "vinet", "--json").out)
    engine = Engine.of(AtomsMLCalculator("refractory-pbe"))
    [(_, found)] = equations_of_state([bulk("W")], engine, EosSettings("vinet"))
    assert record["bulk_modulus"] == pytest.approx(found.b0, rel=1e-5)
    assert record["derivative"] == pytest.approx(found.b1, rel=1e-4)
    assert record["pressures_GPa"][0] > 20 > 0 > record["pressures_GPa"][-1]


def test_a_curve_that_is_none_is_told(run: Run) -> None:
    """Volumes so far apart that tungsten is no longer one crystal of one curve."""
    ase.io.write("W.cif", bulk("W"))
    result = run("eos", "W.cif", "--range", 0.4, "--volumes", 9)
    assert "note: W.cif, frame 0: the curve misses the energies" in result.err
