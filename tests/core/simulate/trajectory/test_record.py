"""Runs that are killed, stopped or out of disk: what they wrote stays, and they end as if nothing had been."""

import os
import random
import signal
import time
from pathlib import Path

import ase
import numpy as np
import pytest
from ase.build import bulk

from atomsml.io.trajectory import Trajectory
from atomsml.simulate.dynamics.integrator import Integrator
from atomsml.simulate.dynamics.langevin import Langevin
from atomsml.simulate.dynamics.mtk import MTK
from atomsml.simulate.md import md
from atomsml.simulate.model import Model
from atomsml.simulate.trajectory import TrajectoryWriter, record, writer
from atomsml.testing.model_potentials import LennardJones
from atomsml.units import GPA

ARGON = LennardJones(onset=4.0, cutoff=5.0)
EVERY = 3
INTEGRATORS: dict[str, Integrator] = {
    "langevin": Langevin(timestep=2.0, temperature=60.0, thermostat_time=100.0, seed=1),
    "mtk": MTK(timestep=2.0, temperature=60.0, pressure=0.1 * GPA),
}


def structures() -> list[ase.Atoms]:
    found = [bulk("Ar", "fcc", length, cubic=True) * (2, 2, 2) for length in (5.3, 5.5, 5.4)]
    found[2].positions[0] += (2.4, 2.4, 0)  # on top of another: this one explodes
    return found


def run(path: Path, name: str, steps: int) -> None:
    """Begin a run, or go on with the one that is there."""
    integrator, model = INTEGRATORS[name], Model(ARGON, ARGON.cutoff)
    if path.exists():
        with TrajectoryWriter(path) as file:
            if file.frames.any():
                state, memory = file.checkpoint().restore(integrator, model)
                left = steps - int(state.step.max())
                for _ in record(md(state, model, integrator, left, EVERY, memory=memory), file, model):
                    pass
                return
    with TrajectoryWriter.create(path, structures(), timestep=2.0, interval=EVERY) as file:
        for _ in record(md(structures(), model, integrator, steps, EVERY, temperature=60.0), file, model):
            pass


def assert_same(one: Path, other: Path) -> None:
    with Trajectory(one) as ours, Trajectory(other) as theirs:
        assert ours.quantities == theirs.quantities
        assert ours.endings == theirs.endings
        assert ours.frames.tolist() == theirs.frames.tolist()
        for a, b in zip(ours.systems, theirs.systems, strict=True):
            for name in ours.quantities:
                np.testing.assert_array_equal(a.read(name), b.read(name), err_msg=name)


def kill_while_running(path: Path, name: str, steps: int, rng: random.Random) -> bool:
    """Run in a fork of this process until it is killed; whether it was."""
    child = os.fork()
    if child == 0:
        writer.LEAST_PAUSE = writer.PAUSE_PER_COST = 0.0  # a commit for every frame: most kills hit one
        try:
            run(path, name, steps)
        except BaseException:
            os._exit(9)
        os._exit(0)
    before = frames_in(path)
    if rng.random() < 0.8:  # the others are killed while they begin
        while frames_in(path) == before:
            time.sleep(0.01)
    time.sleep(rng.uniform(0.0, 0.3))
    os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL)
    return status != 0


def frames_in(path: Path) -> int:
    """Of the first system."""
    if not path.exists():
        return 0
    with Trajectory(path) as trajectory:
        return int(trajectory.frames[0])


def kill_often(folder: Path, name: str, steps: int, kills: int) -> None:
    """Kill one run again and again; then let it end, and compare it with one that was not killed."""
    rng, path = random.Random(kills), folder / "killed.h5"
    run(folder / "whole.h5", name, steps)
    hits, progress = 0, set()
    while hits < kills:
        hits += kill_while_running(path, name, steps, rng)
        progress.add(frames_in(path))
    assert len(progress) > kills // 5, "it was killed in few places"
    assert max(progress) < 1 + steps // EVERY, "it had ended before the last kill"
    run(path, name, steps)
    assert_same(path, folder / "whole.h5")


@pytest.mark.parametrize("name", INTEGRATORS)
def test_a_run_that_is_killed_ends_as_one_that_was_not(tmp_path: Path, name: str) -> None:
    kill_often(tmp_path, name, steps=300, kills=4)


@pytest.mark.slow
@pytest.mark.parametrize("name", INTEGRATORS)
def test_twenty_kills(tmp_path: Path, name: str) -> None:
    kill_often(tmp_path, name, steps=1500, kills=20)


def test_a_system_that_explodes_keeps_its_frames(tmp_path: Path) -> None:
    run(tmp_path / "run.h5", "langevin", 30)
    with Trajectory(tmp_path / "run.h5") as trajectory:
        assert trajectory.frames.tolist()[:2] == [11, 11]
        assert 0 < trajectory.frames[2] < 11
        assert list(trajectory.endings) == [2]
        assert "moved by" in trajectory.endings[2]
        assert np.isfinite(trajectory.systems[2].read("positions")).all()
        with pytest.raises(IndexError, match=rf"frame 10 of {trajectory.frames[2]} of Ar32"):
            trajectory.systems[2][10]


def test_whoever_stops_early_finds_the_last_frame(tmp_path: Path) -> None:
    path, model, integrator = tmp_path / "run.h5", Model(ARGON, ARGON.cutoff), INTEGRATORS["langevin"]
    with TrajectoryWriter.create(path, structures(), timestep=2.0, interval=EVERY) as file:
        frames = record(md(structures(), model, integrator, 30, EVERY, temperature=60.0), file, model)
        for frame in frames:
            if frame.step == 12:
                break
        frames.close()
    with Trajectory(path) as trajectory:
        assert trajectory.frames.tolist()[:2] == [5, 5]
    run(path, "langevin", 30)
    run(tmp_path / "whole.h5", "langevin", 30)
    assert_same(path, tmp_path / "whole.h5")


def test_a_full_disk_stops_the_run_and_what_was_there_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit on the size of files stops the writing as a full disk does; with more room the run goes on."""
    resource = pytest.importorskip("resource", reason="limits on file sizes are set by POSIX systems only")
    path = tmp_path / "run.h5"
    run(path, "langevin", 30)
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 50_000, limits[1]))
    monkeypatch.setattr(writer, "LEAST_PAUSE", 0.0)
    monkeypatch.setattr(writer, "PAUSE_PER_COST", 0.0)
    try:
        with pytest.raises(OSError, match=r"cannot write .*run\.h5: File too large; make room"):
            run(path, "langevin", 150)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
        monkeypatch.undo()
    with Trajectory(path) as trajectory:
        assert 11 <= trajectory.frames[0] < 51
    run(path, "langevin", 150)
    run(tmp_path / "whole.h5", "langevin", 150)
    assert_same(path, tmp_path / "whole.h5")
