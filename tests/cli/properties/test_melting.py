"""`atomsml melting`: what is written of a run, and what is said while it lasts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import pytest
from ase.build import bulk

Run = Callable[..., Any]


@pytest.mark.slow
def test_tungsten_melts_between_far_temperatures(run: Run) -> None:
    """In as few steps as there may be; at 600 K it is solid, at 5,400 K it is not."""
    ase.io.write("W.cif", bulk("W", cubic=True))
    options = ("--spread", 0.8, "--runs", 2, "--rounds", 1, "--atoms", 100, "--steps", 500, "--timestep", 4)
    result = run("melting", "W.cif", "--temperature", 3000, *options, "--json")
    assert result.status == 0, result.err
    [record] = json.loads(result.out)
    assert record["structure"] == "bcc"
    assert [each["verdict"] for each in record["runs"]] == ["grew", "shrank"]
    assert [record["grew_at"], record["shrank_at"]] == pytest.approx([600, 5400])
    assert len(ase.io.read("melting/W-last.extxyz", ":")) == 2
    assert Path("melting/W.png").stat().st_size > 1000
