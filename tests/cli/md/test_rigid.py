"""`atomsml md --rigid hydrogens`: lengths that stay, also through a run that goes on, and what it does not go with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase.build import molecule

from atomsml.simulate.rigid import hydrogen_bonds
from tests.cli.md.test_outputs import quantities

Run = Callable[..., Any]

WORDS = ("md", "given.xyz", "-m", "organic-xtb", "--rigid", "hydrogens", "--timestep", 2, "--interval", 5)


def test_lengths_stay_and_a_run_goes_on_bit_for_bit(run: Run) -> None:
    given = molecule("CH3CH2OH")
    ase.io.write("given.xyz", given)
    assert run(*WORDS, "--steps", 15, "-o", "run.h5").status == 0
    result = run(*WORDS, "--steps", 30, "-o", "run.h5", "--resume", "--json")
    assert "are long for hydrogen" not in result.err
    (record,) = json.loads(result.out)
    assert (record["finished"], record["steps"]) == (True, 30)
    assert abs(record["drift_meV_per_atom"]) < 1
    run(*WORDS, "--steps", 30, "-o", "whole.h5")
    (ours,), (theirs,) = quantities("run.h5"), quantities("whole.h5")
    for name in theirs:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    start = ase.io.read("given.xyz")
    for positions in ours["positions"]:
        for i, j in hydrogen_bonds(start):
            assert np.linalg.norm(positions[i] - positions[j]) == pytest.approx(start.get_distance(i, j), abs=1e-8)
    refused = run(*WORDS[:4], *WORDS[6:], "--steps", 30, "-o", "run.h5", "--resume")
    assert "run.h5 is of a run with --rigid hydrogens, not without --rigid" in refused.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("O", "--rigid", "all"), "--rigid must be hydrogens, got 'all'"),
        (("O", "--rigid", "hydrogens", "--ensemble", "npt"), "--rigid needs a constant volume: --ensemble nve or nvt"),
        (("[C-]#[O+]", "--rigid", "hydrogens"), "--rigid hydrogens: no hydrogen is bonded to another atom"),
        (("O", "--rigid", "hydrogens", "--fix", "O"), "--rigid: an atom of a rigid bond cannot be held as well"),
    ],
)
def test_what_it_does_not_go_with(run: Run, model: str, words: tuple[str, ...], message: str) -> None:
    result = run("md", *words, "-m", model, "-o", "run.h5")
    assert (result.status, result.out) == (1, "")
    assert message in result.err
    assert not list(Path().iterdir())
