"""Which structures of a run move together: as memory has room, and ever after as the file of the run says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atomsml.io.trajectory import Trajectory
from atomsml.simulate.batching import memory
from tests.cli.md.test_outputs import quantities

Run = Callable[..., Any]

WORDS = ("md", *["CO"] * 6, "-m", "organic-xtb", "--timestep", 0.5, "--interval", 5, "--seed", 2)


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let a machine have so many bytes free, and memory be measured of few atoms as well."""

    def set_free(size: float) -> None:
        monkeypatch.setattr(memory, "FEW", 0)
        monkeypatch.setattr(memory, "free_bytes", lambda device: size)

    return set_free


def batches_in(path: str) -> list[list[int]]:
    with Trajectory(path) as trajectory:
        found: list[list[int]] = trajectory.about["batches"]
        return found


def test_a_batch_is_what_memory_has_room_for_and_goes_on_as_it_began(run: Run, free: Callable[[float], None]) -> None:
    free(1.0)
    assert run(*WORDS, "--steps", 20, "-o", "whole.h5").status == 0
    assert batches_in("whole.h5") == [[i] for i in range(6)]
    run(*WORDS, "--steps", 10, "-o", "run.h5")
    free(1e12)
    result = run(*WORDS, "--steps", 20, "-o", "run.h5", "--resume", "--json")
    assert [record["steps"] for record in json.loads(result.out)] == [20] * 6  # every batch is longer now
    assert batches_in("run.h5") == [[i] for i in range(6)]
    for ours, theirs in zip(quantities("run.h5"), quantities("whole.h5"), strict=True):
        for name in theirs:
            np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    run(*WORDS, "--steps", 10, "-o", "other.h5")
    assert batches_in("other.h5") == [[0, 1, 2, 3, 4, 5]]


def test_where_memory_is_short_a_run_does_not_go_on_and_stays(run: Run, free: Callable[[float], None]) -> None:
    run(*WORDS, "--steps", 10, "-o", "run.h5")
    before = Path("run.h5").read_bytes()
    free(1.0)
    result = run(*WORDS, "--steps", 20, "-o", "run.h5", "--resume")
    assert result.status == 1
    (line,) = [line for line in result.err.splitlines() if line.startswith("error")]
    assert line.startswith("error: 6 structures of this run move together, which takes about ")
    assert "; 1e-09 GB of memory are free" in line
    assert "go on where there is more memory" in line
    assert Path("run.h5").read_bytes() == before


def test_batches_that_a_file_does_not_tell_are_not_guessed(run: Run) -> None:
    import h5py

    from atomsml.io.trajectory.committed_hdf5 import CommittedHDF5
    from atomsml.io.trajectory.layout import read_text, write_text

    run(*WORDS, "--steps", 10, "-o", "run.h5")
    file = CommittedHDF5(Path("run.h5"), writes=True)
    assert isinstance(file.hdf5, h5py.File)
    for batches in ([[0, 1], [3, 4, 5]], [[0, 1, 2, 2, 3, 4, 5]]):
        write_text(file.hdf5, "about", {**read_text(file.hdf5, "about"), "batches": batches})
    file.commit()
    file.close()
    result = run(*WORDS, "--steps", 20, "-o", "run.h5", "--resume")
    assert result.status == 1
    assert "error: run.h5 does not say which structures run together" in result.err
