"""`atomsml md --device cpu,cpu`: two processes make the file that one makes, and go on after whatever ends them."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atomsml.simulate.trajectory import writer
from tests.cli.md.test_batches import batches_in
from tests.cli.md.test_outputs import frames_in, quantities
from tests.cli.test_kills import begin, ended

Run = Callable[..., Any]

WORDS = ["md", "CO", "O", "CCO", "C", "-m", "organic-xtb", "--timestep", "0.5", "--interval", "4", "--seed", "3"]
STEPS = ["--steps", "400"]
LINUX = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the processes in /proc, which Linux has")


def children(process: int) -> list[int]:
    """Those of a process that compute."""
    found = []
    for child in Path(f"/proc/{process}/task/{process}/children").read_text().split():
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
            found.append(int(child))
    return found


def lives(process: int) -> bool:
    """Whether it is there, and no zombie."""
    try:
        return bool(Path(f"/proc/{process}/cmdline").read_bytes())
    except FileNotFoundError:
        return False


def wait_for(ready: Callable[[], bool], child: int | None = None) -> None:
    """While a command goes on."""
    while not ready():
        assert child is None or lives(child), "it ended"
        time.sleep(0.02)


def assert_same(one: str, other: str) -> None:
    for ours, theirs in zip(quantities(one), quantities(other), strict=True):
        for name in theirs:
            np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    assert Path(one).with_suffix(".csv").read_bytes() == Path(other).with_suffix(".csv").read_bytes()


@LINUX
def test_a_process_that_dies_costs_nothing_that_was_written(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other finishes, and one process goes on with the file of two, bit for bit."""
    with monkeypatch.context() as patch:
        patch.setattr(writer, "LEAST_PAUSE", 0.0)  # so that frames are seen at once
        patch.setattr(writer, "PAUSE_PER_COST", 0.0)
        child = begin([*WORDS, *STEPS, "-o", "run.h5", "--device", "cpu,cpu"], Path())
    wait_for(lambda: frames_in("run.h5") > 2, child)
    assert batches_in("run.h5") == [[0, 1], [2, 3]]
    os.kill(children(child)[0], signal.SIGKILL)
    status, said = ended(child, Path())
    assert status == 1
    (error,) = [line for line in said.splitlines() if line.startswith("error")]
    assert error.startswith("error: the process on cpu was killed by SIGKILL")
    assert error.endswith("the trajectory up to step 400 is in run.h5; --resume goes on")
    frames = [len(system["energy"]) for system in quantities("run.h5")]
    assert frames[2:] == [101, 101]
    assert 2 < frames[0] == frames[1] < 101
    summary = json.loads(Path("run.summary.json").read_text())
    assert (summary["device"], summary["interrupted"]) == ("cpu,cpu", True)
    assert [(record["file"], record["reason"]) for record in summary["failed"]] == [
        ("CO", "interrupted"),
        ("O", "interrupted"),
    ]
    result = run(*WORDS, *STEPS, "-o", "run.h5", "--resume", "--json")
    assert result.status == 0
    assert [record["steps"] for record in json.loads(result.out)] == [400] * 4
    assert run(*WORDS, *STEPS, "-o", "whole.h5", "--device", "cpu,cpu").status == 0
    assert_same("run.h5", "whole.h5")


@LINUX
@pytest.mark.slow  # tests/cli/relax/test_several_devices.py kills in the same way
def test_processes_end_with_the_command_that_began_them(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in the middle, it goes on bit for bit."""
    with monkeypatch.context() as patch:
        patch.setattr(writer, "LEAST_PAUSE", 0.0)
        patch.setattr(writer, "PAUSE_PER_COST", 0.0)
        child = begin([*WORDS, *STEPS, "-o", "run.h5", "--device", "cpu,cpu"], Path())
    wait_for(lambda: frames_in("run.h5") > 2, child)
    processes = children(child)
    assert len(processes) == 2
    os.kill(child, signal.SIGKILL)
    assert ended(child, Path())[0] == -signal.SIGKILL
    wait_for(lambda: not any(map(lives, processes)))
    assert run(*WORDS, *STEPS, "-o", "run.h5", "--device", "cpu,cpu", "--resume").status == 0
    assert run(*WORDS, *STEPS, "-o", "whole.h5", "--device", "cpu,cpu").status == 0
    assert_same("run.h5", "whole.h5")


def test_devices_that_are_none_are_refused(run: Run, model: str) -> None:
    for words, said in (
        ("cpu,gpu", "unknown device 'gpu'"),
        ("cpu,", "unknown device ''"),
        ("cpu,auto", "--device cpu,auto: auto is one device; name each of several, as cuda:0,cuda:1"),
        ("cuda:9,cpu", "device 'cuda:9' is not available here"),
    ):
        for command in ("md", "relax"):
            result = run(command, "O", "-m", model, "--device", words)
            assert (result.status, result.out) == (1, "")
            assert result.err.startswith(f"error: {said}")
            assert not list(Path().iterdir())
