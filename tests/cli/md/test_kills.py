"""Twenty kills of one run of `atomsml md`, which goes on with --resume after each."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from atomsml.simulate.trajectory import writer
from tests.cli.md.test_outputs import frames_in, quantities
from tests.cli.test_kills import begin, ended

Run = Callable[..., Any]


@pytest.mark.slow
@pytest.mark.parametrize("ensemble", ["nvt", "nve"])
def test_a_run_that_is_killed_twenty_times_ends_as_one_that_was_not(
    run: Run, ensemble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["md", "CO", "O", "-m", "organic-xtb", "--ensemble", ensemble, "--steps", "1600", "--interval", "2"]
    words += ["--timestep", "0.5", "--seed", "5"]
    assert run(*words, "-o", "whole.h5").status == 0
    rng, places = random.Random(1), []
    with monkeypatch.context() as patch:
        patch.setattr(writer, "LEAST_PAUSE", 0.0)
        patch.setattr(writer, "PAUSE_PER_COST", 0.0)
        while len(places) < 20:
            before = frames_in("killed.h5")
            child = begin([*words, "-o", "killed.h5", "--resume"], Path())
            deadline = time.monotonic() + 60
            while frames_in("killed.h5") == before and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 0.3))
            os.kill(child, signal.SIGKILL)
            status, said = ended(child, Path())
            assert status == -signal.SIGKILL, said
            places.append(frames_in("killed.h5"))
    assert len(set(places)) == 20
    assert max(places) < 801
    assert run(*words, "-o", "killed.h5", "--resume").status == 0
    for ours, theirs in zip(quantities("killed.h5"), quantities("whole.h5"), strict=True):
        assert ours.keys() == theirs.keys()
        for name in theirs:
            assert (ours[name] == theirs[name]).all(), name
    assert Path("killed.csv").read_bytes() == Path("whole.csv").read_bytes()
