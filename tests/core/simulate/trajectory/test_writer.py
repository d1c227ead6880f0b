"""Runs of a cheap potential: what is written is read back, and a run that was stopped goes on bit for bit."""

import subprocess
import sys
from pathlib import Path

import ase
import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.constraints import FixAtoms

from atomsml.io.trajectory import Trajectory
from atomsml.simulate.dynamics.nve import NVE
from atomsml.simulate.model import Model
from atomsml.simulate.state import State
from atomsml.simulate.trajectory import Checkpoint, TrajectoryWriter
from atomsml.testing.model_potentials import LennardJones
from atomsml.units import FS

ARGON = LennardJones(onset=4.0, cutoff=5.0)
TIMESTEP, INTERVAL = 2.0, 2


def structures() -> list[ase.Atoms]:
    """Three systems of different sizes that move."""
    found, rng = [], np.random.default_rng(0)
    for repeats in (2, 3, 2):
        atoms = bulk("Ar", "fcc", 5.3, cubic=True) * (repeats, 2, 2)
        atoms.set_velocities(rng.normal(scale=0.01, size=(len(atoms), 3)))
        found.append(atoms)
    found[1].set_constraint(FixAtoms([0, 3]))
    found[1].info |= {"source": "COD 1", "charge": np.int64(0), "field": np.ones(3)}
    found[1].set_tags(range(len(found[1])))
    return found


def begun(path: Path) -> tuple[State, Model, TrajectoryWriter]:
    state, model = State.of(structures()), Model(ARGON, ARGON.cutoff)
    model(state)
    return (
        state,
        model,
        TrajectoryWriter.create(path, structures(), TIMESTEP, INTERVAL, about={"settings": {"seed": 3}}),
    )


def run(state: State, model: Model, writer: TrajectoryWriter, steps: int, commit_every: int) -> State:
    """Go on to so many steps; frames that the file has already are not written again."""
    nve = NVE(TIMESTEP)
    memory = nve.start(state)
    while True:
        done = int(state.step.max())
        if done % INTERVAL == 0 and done // INTERVAL == writer.frames[state.index].max():
            writer.append(state, {"conserved": nve.conserved(state, memory)})
        if done % commit_every == 0 or done == steps:
            writer.commit(Checkpoint.of(state, memory, model))
        if done == steps:
            return state
        nve.step(state, memory, model)


def contents(path: Path) -> dict[str, np.ndarray]:
    with Trajectory(path) as trajectory:
        found = {
            f"{system.index}/{name}": system.read(name)
            for system in trajectory.systems
            for name in trajectory.quantities
        }
        return found | {"frames": trajectory.frames}


def assert_equal(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_frames_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    state, model, writer = begun(path)
    with writer:
        last = run(state, model, writer, 8, commit_every=4)
    with Trajectory(path) as trajectory:
        assert trajectory.about["settings"] == {"seed": 3}
        assert trajectory.frames.tolist() == [5, 5, 5]
        for k, (system, expected) in enumerate(zip(trajectory.systems, last.write_to(structures()), strict=True)):
            atoms = system[-1]
            assert atoms == expected
            np.testing.assert_array_equal(atoms.get_tags(), expected.get_tags())
            np.testing.assert_allclose(atoms.get_velocities(), expected.get_velocities(), rtol=1e-15)
            np.testing.assert_array_equal(atoms.get_forces(), expected.get_forces())
            assert atoms.get_potential_energy() == expected.get_potential_energy()
            assert [c.todict() for c in atoms.constraints] == [c.todict() for c in expected.constraints]
            np.testing.assert_array_equal(system.times(), np.arange(5) * TIMESTEP * INTERVAL)
            assert system.read("positions").shape == (5, len(expected), 3)
            assert system.read("conserved", slice(1, 4, 2)).shape == (2,)
            start = structures()[k]
            assert system[0] == start
            np.testing.assert_allclose(system.read("velocities")[0], start.get_velocities() * FS, rtol=1e-15)
        assert trajectory.systems[1][0].info == {"source": "COD 1", "charge": 0, "field": [1.0, 1.0, 1.0]}
        assert [len(atoms) for atoms in trajectory.systems[1][1:3]] == [48, 48]


@pytest.mark.parametrize("stopped_at", [2, 5, 7])
def test_a_run_goes_on_bit_for_bit(tmp_path: Path, stopped_at: int) -> None:
    """Stopped after a commit at any step, also one without a frame, where the neighbour list is old."""
    state, model, writer = begun(tmp_path / "whole.h5")
    with writer:
        whole = run(state, model, writer, 60, commit_every=17)
    assert 0 < model.neighbors.rebuilds < 60

    path = tmp_path / "parts.h5"
    state, model, writer = begun(path)
    with writer:
        run(state, model, writer, stopped_at, commit_every=stopped_at)
    for steps in (30, 41, 60):
        with TrajectoryWriter(path) as writer:
            model = Model(ARGON, ARGON.cutoff)
            state, _ = writer.checkpoint().restore(NVE(TIMESTEP), model)
            state = run(state, model, writer, steps, commit_every=steps)
    for name in state.levels:
        np.testing.assert_array_equal(getattr(state, name), getattr(whole, name), err_msg=name)
    assert_equal(contents(path), contents(tmp_path / "whole.h5"))


def test_systems_may_leave_and_come(tmp_path: Path) -> None:
    """Each has its frames in its own place: those of one that left stay, those of one that came late begin at 0."""
    state, model, writer = begun(tmp_path / "whole.h5")
    with writer:
        run(state, model, writer, 6, commit_every=6)

    path, parts = tmp_path / "parts.h5", State.of(structures())
    writer = TrajectoryWriter.create(path, structures(), TIMESTEP, INTERVAL)
    nve, model = NVE(TIMESTEP), Model(ARGON, ARGON.cutoff)
    early, late = parts.systems(torch.tensor([0, 2])), parts.systems(torch.tensor([1]))
    with writer:
        for first, second in ((early, 6), (late, 6)):
            model(first)
            run(first, model, writer, second, commit_every=4)
            writer.end(2, "left")
            writer.commit(Checkpoint.of(first, nve.start(first), model))
    for name, array in contents(tmp_path / "whole.h5").items():
        np.testing.assert_allclose(contents(path)[name], array, atol=1e-12, err_msg=name)
    with Trajectory(path) as trajectory:
        assert trajectory.endings == {2: "left"}


def test_a_trajectory_that_stays_open_does_not_crash_the_end_of_a_process(tmp_path: Path) -> None:
    _, _, writer = begun(tmp_path / "run.h5")
    writer.close()
    code = (
        f"from atomsml.io.trajectory import Trajectory; t = Trajectory({str(tmp_path / 'run.h5')!r}); print(t.frames)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[0 0 0]\n"


def test_frames_in_the_wrong_place_are_refused(tmp_path: Path) -> None:
    state, _, writer = begun(tmp_path / "run.h5")
    writer.append(state, {})
    with pytest.raises(ValueError, match=r"the next frames are those after the steps \[2, 2, 2\], got \[0, 0, 0\]"):
        writer.append(state, {})


def test_what_another_method_remembers_is_refused(tmp_path: Path) -> None:
    state, model, _ = begun(tmp_path / "run.h5")
    nve = NVE(TIMESTEP)
    checkpoint = Checkpoint.of(state, nve.start(state), model)
    checkpoint.memory["chains"] = torch.zeros(3)
    with pytest.raises(ValueError, match="the run remembers chains, the integrator nothing; go on with the ensemble"):
        checkpoint.restore(nve, model)
