"""screen(): whatever happens to the workers, each item is answered once, or listed with the reason why not."""

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from atomsml.interfaces.screening.screen import screen
from atomsml.properties.task import Failure

PROCESSES = partial(ProcessPoolExecutor, 2, mp_context=multiprocessing.get_context("fork"))  # nothing is computed


def squares(numbers: Sequence[int]) -> list[int]:
    return [number**2 for number in numbers]


def dying_once(marks: Path, numbers: Sequence[int]) -> list[int]:
    """The first process that meets a hundred is killed there; all note what they are given."""
    with (marks / "asked").open("a") as file:
        file.writelines(f"{number}\n" for number in numbers)
    for number in numbers:
        if number % 100 == 50 and not (marks / str(number)).exists():
            (marks / str(number)).touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return squares(numbers)


def deadly(deaths: frozenset[int], numbers: Sequence[int]) -> list[int]:
    """Some numbers end whatever process they come to."""
    if deaths.intersection(numbers):
        os.kill(os.getpid(), signal.SIGKILL)
    return squares(numbers)


def unlucky(marks: Path, numbers: Sequence[int]) -> Iterator[int | Failure]:
    """Raises for 13, refuses 14, and fails the first two times for 15."""
    for number in numbers:
        if number == 13:
            raise RuntimeError("thirteen\nis no number")
        if number == 15:
            tries = len(list(marks.glob("15-*")))
            (marks / f"15-{tries}").touch()
            if tries < 2:
                raise MemoryError("for now")
        yield Failure("is refused") if number == 14 else number**2


@contextmanager
def parsl_threads() -> Iterator[Executor]:
    parsl = pytest.importorskip("parsl")
    from parsl.concurrent import ParslPoolExecutor
    from parsl.executors import ThreadPoolExecutor as Threads

    with ParslPoolExecutor(parsl.Config([Threads(max_threads=2)], run_dir="parsl", usage_tracking=0)) as executor:
        yield executor


@contextmanager
def dask_threads() -> Iterator[Executor]:
    distributed = pytest.importorskip("distributed")
    with distributed.Client(processes=False, n_workers=2, threads_per_worker=1, dashboard_address=None) as client:
        yield client.get_executor()


@pytest.mark.parametrize(
    "make",
    [partial(ThreadPoolExecutor, 2), PROCESSES, parsl_threads, dask_threads],
    ids=["threads", "processes", "parsl", "dask"],
)
def test_any_executor_answers_each_item_once(make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with make() as executor:
        found = list(screen(range(30), partial(unlucky, tmp_path), executor, chunk=4, at_once=3))
        assert list(screen([], squares, executor)) == []
        ended_early = screen(range(30), squares, executor, chunk=4, at_once=3)
        assert next(ended_early)[0] < 30
        ended_early.close()
    assert sorted(number for number, _ in found) == list(range(30))
    failures = {13: Failure("RuntimeError: thirteen is no number"), 14: Failure("is refused")}
    assert dict(found) == {number: number**2 for number in range(30)} | failures


def test_a_pool_that_breaks_is_made_again(tmp_path: Path) -> None:
    found = list(screen(range(500), partial(dying_once, tmp_path), PROCESSES, chunk=20, at_once=4))
    assert len(list(tmp_path.glob("*50"))) == 5  # processes were killed
    assert sorted(found) == [(number, number**2) for number in range(500)]
    asked = (tmp_path / "asked").read_text().split()
    assert 500 < len(asked) <= 500 + 5 * 4 * 20 + 5 * 20  # of what was lost alone, what was on its way and what died


def test_what_ends_processes_is_found_and_nothing_else_is_lost() -> None:
    deaths = frozenset({0, 37, 38})
    found = list(screen(range(60), partial(deadly, deaths), PROCESSES, chunk=6, retries=1))
    assert sorted(number for number, _ in found) == list(range(60))
    failures = {number: answer.reason for number, answer in found if isinstance(answer, Failure)}
    assert failures.keys() == deaths
    assert all(reason.startswith("its worker was lost: BrokenProcessPool: ") for reason in failures.values())


def test_what_cannot_go_on_says_so(tmp_path: Path) -> None:
    with pytest.raises(ChildProcessError, match=r"^no worker answers; the last was lost by BrokenProcessPool: "):
        list(screen(range(50), partial(deadly, frozenset(range(50))), PROCESSES, chunk=2))
    with pytest.raises(ChildProcessError, match=r"^no worker answers; .*pickle"), PROCESSES() as executor:
        list(screen(range(50), lambda numbers: numbers, executor))
    with pytest.raises(BrokenExecutor, match="give a function that makes an executor"), PROCESSES() as executor:
        list(screen(range(50), partial(deadly, frozenset({7})), executor))
    with ThreadPoolExecutor(1) as executor:
        with pytest.raises(ValueError, match="a result for each item: 1 for 10"):
            list(screen(range(10), lambda numbers: numbers[:1], executor, chunk=10))
        for options in ({"chunk": 0}, {"at_once": 0}, {"retries": -1}):
            with pytest.raises(ValueError, match=f"^{next(iter(options))} must be at least"):
                screen(range(10), squares, executor, **options)
