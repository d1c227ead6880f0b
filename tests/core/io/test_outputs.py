"""Sets of output files: complete or untouched, whatever happens, and nothing of a killed run is lost or mixed in."""

import errno
import os
import signal
from pathlib import Path

import ase.io
import pytest
from ase.build import molecule

from atomsml.io.outputs import OutputSet, beside, naming_file, visible, write_atomically
from atomsml.signals import Stopped, exit_status, held_stops, raising_stops

NAMES = ("o.extxyz", "o.csv", "o.json")


def targets(folder: Path) -> list[Path]:
    return [folder / name for name in NAMES]


def fill(files: OutputSet, folder: Path, text: str) -> None:
    """As a command does: two files grow, the last is written at the end."""
    trajectory, log, summary = targets(folder)
    files.growing(trajectory).write_text(text)
    files.growing(log).write_text(f"{text}\n")
    files.write(summary, lambda path: path.write_text(text))


def contents(folder: Path) -> dict[str, str]:
    return {name: (folder / name).read_text() for name in sorted(os.listdir(folder))}


def test_a_set_is_published_at_the_end(tmp_path):
    with OutputSet(targets(tmp_path)) as files:
        fill(files, tmp_path, "new")
        assert not any(path.exists() for path in targets(tmp_path))
    assert contents(tmp_path) == {"o.csv": "new\n", "o.extxyz": "new", "o.json": "new"}


def test_an_error_leaves_the_old_set_and_puts_what_had_grown_aside(tmp_path):
    with OutputSet(targets(tmp_path)) as files:
        fill(files, tmp_path, "old")
    before = contents(tmp_path)
    files = OutputSet(targets(tmp_path))
    with pytest.raises(RuntimeError), files:
        grow_and_fail(files, tmp_path)
    assert files.kept == [tmp_path / "o.interrupted-1.extxyz", tmp_path / "o.interrupted-1.csv"]
    after = contents(tmp_path)
    assert after | before == after
    assert after["o.interrupted-1.csv"] == "step\n0\n"  # whole lines
    assert len(ase.io.read(tmp_path / "o.interrupted-1.extxyz", ":")) == 2  # whole frames
    assert len(after) == 5


def grow_and_fail(files: OutputSet, folder: Path) -> None:
    """Two frames and a half, a line and a half, then an error."""
    ase.io.write(files.growing(folder / "o.extxyz"), [molecule("H2O")] * 2, format="extxyz")
    with files.growing(folder / "o.extxyz").open("a") as file:
        file.write("3\nhalf a frame\nO 0.0 0.0")
    files.growing(folder / "o.csv").write_text("step\n0\n1")
    raise RuntimeError("stop")


def killed_run(folder: Path, moment: str) -> int:
    """The status of a process that dies while it makes a set: while a file grows or is written, once it is made, or
    just before a file of this name takes its place.
    """
    child = os.fork()
    if child == 0:
        die_in(folder, moment)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def die_in(folder: Path, moment: str) -> None:
    def die(now: str) -> None:
        if moment == now:
            os.kill(os.getpid(), signal.SIGKILL)

    def write(path: Path) -> None:
        path.write_text("half")
        die("write")

    def rename(source: Path, target: Path) -> None:
        if source.name.endswith(".partial"):
            die(target.name)
        replace(source, target)

    trajectory, _, summary = targets(folder)
    with OutputSet(targets(folder)) as files:
        files.growing(trajectory).write_text("1\nframe\nH 0 0 0\n2\n")
        die("grow")
        files.write(summary, write)
        die("made")
        replace, os.replace = os.replace, rename


@pytest.mark.parametrize("moment", ["grow", "write", "made", "o.extxyz", "o.json"])
def test_what_a_killed_run_left_is_put_aside_with_words(tmp_path, moment):
    with OutputSet(targets(tmp_path)) as files:
        fill(files, tmp_path, "old")
    old = contents(tmp_path)
    assert killed_run(tmp_path, moment) == -signal.SIGKILL
    if moment not in NAMES:
        assert {name: (tmp_path / name).read_text() for name in NAMES} == old
    with OutputSet(targets(tmp_path)) as files:
        fill(files, tmp_path, "next")
    after = contents(tmp_path)
    assert {name: after[name] for name in NAMES} == {"o.csv": "next\n", "o.extxyz": "next", "o.json": "next"}
    assert [name for name in after if name.startswith(".")] == []
    left = {name: text for name, text in after.items() if "interrupted" in name}
    frame = "1\nframe\nH 0 0 0\n"
    expected = {
        "grow": {"o.interrupted-1.extxyz": frame},
        "write": {"o.interrupted-1.extxyz": frame},
        "made": {"o.interrupted-1.extxyz": frame, "o.interrupted-1.json": "half"},
        "o.extxyz": {"o.interrupted-1.extxyz": frame, "o.interrupted-1.json": "half"},
        "o.json": {"o.interrupted-1.json": "half"},  # the trajectory was in its place
    }
    assert left == expected[moment]
    assert all(any(name in line for line in files.remains) for name in after if name not in NAMES)


def test_a_run_that_goes_on_is_not_disturbed(tmp_path):
    with OutputSet([tmp_path / "o.csv"]) as files:
        files.growing(tmp_path / "o.csv").write_text("mine\n")
        with pytest.raises(OSError, match=r"^cannot write .*o\.csv: another run is writing it"):
            OutputSet([tmp_path / "o.csv"]).__enter__()
    assert contents(tmp_path) == {"o.csv": "mine\n"}


def test_if_one_cannot_take_its_place_none_does(tmp_path):
    with OutputSet(targets(tmp_path)) as files:
        fill(files, tmp_path, "old")
    files = OutputSet(targets(tmp_path)).__enter__()
    fill(files, tmp_path, "new")
    (tmp_path / "o.csv").unlink()
    (tmp_path / "o.csv").mkdir()
    (tmp_path / "o.csv" / "precious").touch()
    with pytest.raises(OSError, match=r"cannot write .*o\.csv: Is a directory"):
        files.__exit__(None, None, None)
    assert (tmp_path / "o.extxyz").read_text() == (tmp_path / "o.json").read_text() == "old"
    assert (tmp_path / "o.csv" / "precious").exists()


def test_an_interrupted_run_keeps_what_it_replaces(tmp_path):
    with OutputSet(targets(tmp_path)) as files:
        fill(files, tmp_path, "old")
    with OutputSet(targets(tmp_path)) as files:
        files.growing(tmp_path / "o.extxyz").write_text("new")
        files.write(tmp_path / "o.json", lambda path: path.write_text("new"))
        files.interrupted = True
    assert contents(tmp_path) == {
        "o.extxyz": "new",
        "o.json": "new",
        "o.previous-1.csv": "old\n",
        "o.previous-1.extxyz": "old",
        "o.previous-1.json": "old",
    }
    assert len(files.previous) == 3


def test_an_interrupted_run_with_nothing_to_keep_touches_nothing(tmp_path):
    with OutputSet(targets(tmp_path)) as files:
        fill(files, tmp_path, "old")
    with OutputSet(targets(tmp_path)) as files:
        files.interrupted = True
    assert contents(tmp_path) == {"o.csv": "old\n", "o.extxyz": "old", "o.json": "old"}


def test_what_was_written_early_outlives_a_later_error(tmp_path):
    files = OutputSet([tmp_path / "o.sdf"]).__enter__()
    for text in ("one", "one two"):
        files.write(tmp_path / "o.sdf", lambda path, text=text: path.write_text(text))
    with pytest.raises(OSError, match=r"^cannot write .*o\.sdf: another run is writing it"):
        OutputSet([tmp_path / "o.sdf"]).__enter__()
    files.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert contents(tmp_path) == {"o.interrupted-1.sdf": "one two"}


@pytest.mark.parametrize("suffix", [".extxyz", ".sdf", ".h5"])
def test_names_may_be_as_long_as_the_file_system_takes(tmp_path, suffix):
    name = "x" * (255 - len(suffix)) + suffix
    write_atomically(tmp_path / name, lambda path: path.write_text("new"))
    assert os.listdir(tmp_path) == [name]
    files = OutputSet([tmp_path / name]).__enter__()
    files.growing(tmp_path / name).write_text("1\n\nH 0 0 0\n")
    files.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert files.kept[0].exists()
    assert files.kept[0].name.endswith(f".interrupted-1{suffix}")


def test_long_names_stay_different():
    long = Path("x" * 250)
    assert beside(long.with_name(f"{long.name}a.traj"), ".csv") != beside(long.with_name(f"{long.name}b.traj"), ".csv")
    assert beside(Path("f/o.traj"), ".summary.json") == Path("f/o.summary.json")
    assert visible(Path("f/ö" + "ö" * 120 + ".sdf"), "previous", 10).name.endswith(".previous-10.sdf")


def test_errors_without_a_file_get_its_name():
    full = pytest.raises(OSError, match=r"^cannot write a/b\.csv: No space left on device; make room")
    with full, naming_file(Path("a/b.csv")):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(FileNotFoundError, match=r"input\.xyz"), naming_file(Path("a/b.csv")):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "input.xyz")


# --- requests to stop ---


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_every_request_to_stop_is_one_exception(number, status):
    outside = signal.signal(number, signal.SIG_DFL)  # where tests run in the background, SIGINT is ignored
    try:
        with raising_stops(), pytest.raises(KeyboardInterrupt) as stop:
            signal.raise_signal(number)
        assert exit_status(stop.value) == status
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, outside)
    assert exit_status(KeyboardInterrupt()) == 130


def test_a_request_to_stop_waits_for_the_end_of_a_step():
    steps = []

    def step() -> None:
        with held_stops():
            signal.raise_signal(signal.SIGTERM)
            steps.append("written")
        steps.append("not reached")

    with raising_stops(), pytest.raises(Stopped):
        step()
    assert steps == ["written"]


def test_ignored_signals_stay_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with raising_stops(), held_stops():
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
