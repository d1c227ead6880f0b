"""Several devices: a process each, which take parts of a list of items; one stream of results."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for_pipes
from multiprocessing.reduction import ForkingPickler
from typing import Any, TypeAlias, TypeVar

import torch

from atomsml.signals import ignored_stops

Item = TypeVar("Item")
Result = TypeVar("Result")
Task: TypeAlias = Callable[[str, Sequence[Item]], Iterable[tuple[int, Result]]]

SPAWN = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
DONE = "done"  # said by a process after its last result


def on_devices(
    task: Task[Item, Result],
    items: Sequence[Item],
    devices: Sequence[str],
    executor: Executor | None = None,
    part: int = 256,
) -> Iterator[tuple[int, Result]]:
    """The number of an item and a result of it, as devices find them.

        for i, relaxed in on_devices(relax_there, structures, ["cuda:0", "cuda:1"]):
            ...

    A device that is done takes the next part, so that quick ones take more. Each has a process of its own, started
    afresh; a device that is named twice has two. Requests to stop (Ctrl-C) are for the caller alone: the processes end
    when no more results are taken. If one dies, the others go on until nothing is left but what it had taken.

    Args:
        task: of a device and some items gives results, each with the number of its item among those; of an item none,
            one or several. It is called in other processes, so that it must be a function of a module, or a
            `functools.partial` of one. What it loads it should keep, as by `functools.lru_cache`: it is called for
            every part. Tensors that it gives arrive on the CPU.
        devices: as in `AtomsMLCalculator(..., device=...)`.
        executor: any of `concurrent.futures`, as Parsl and Dask have, instead of own processes; it gets as many calls
            at a time as there are devices, and results arrive when a call has ended.
        part: items of a call.

    Raises:
        ValueError: no devices.
        ChildProcessError: at the end: a process died, such as for want of memory; says how.
        Exception: what the task raises; parts that have not begun are dropped.
    """
    if not devices:
        raise ValueError("give at least one device, such as cpu or cuda:0")
    starts = range(0, len(items), part)
    parts = iter([(start, items[start : start + part]) for start in starts])
    if executor is None:
        return _by_processes(task, parts, devices[: len(starts)])
    return _by_executor(task, parts, devices, executor)


class _Process:
    """A process that computes on a device what is sent to it."""

    def __init__(self, task: Task[Any, Any], device: str, threads: int) -> None:
        self.device, self.first = device, 0  # number of the first item of the part on which it is
        self.pipe, there = SPAWN.Pipe()
        self._process = SPAWN.Process(target=_serve, args=(there, task, device, threads), daemon=True)
        with ignored_stops():
            self._process.start()
        there.close()

    def begin(self, part: tuple[int, Sequence[Any]]) -> None:
        self.first = part[0]
        with suppress(BrokenPipeError):  # it has died, which whoever reads from it finds
            _send(self.pipe, part[1])

    def death(self) -> str:
        """How it died."""
        self._process.join()
        status = self._process.exitcode or 0
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        return f"the process on {self.device} {how}" + ("; was memory short?" if status == -9 else "")

    def end(self) -> None:
        self.pipe.close()
        self._process.kill()
        self._process.join()


def _by_processes(
    task: Task[Item, Result], parts: Iterator[tuple[int, Sequence[Item]]], devices: Sequence[str]
) -> Iterator[tuple[int, Result]]:
    shares = sum(device.lower() == "cpu" for device in devices)
    threads = max(1, torch.get_num_threads() // max(1, shares))
    processes: dict[Connection, _Process] = {}
    deaths = list[str]()
    try:
        for device in devices:
            process = _Process(task, device, threads)
            processes[process.pipe] = process
            process.begin(next(parts))
        while processes:
            for pipe in wait_for_pipes(list(processes)):
                assert isinstance(pipe, Connection)
                process = processes[pipe]
                try:
                    said = pipe.recv()
                except (EOFError, ConnectionError):
                    deaths.append(process.death())
                    del processes[pipe]
                    continue
                if isinstance(said, Exception):
                    raise said
                if said != DONE:
                    yield process.first + said[0], said[1]
                elif (following := next(parts, None)) is not None:
                    process.begin(following)
                else:
                    processes.pop(pipe).end()
    finally:
        for process in processes.values():
            process.end()
    if deaths:
        raise ChildProcessError("; ".join(deaths))


def _serve(pipe: Connection, task: Task[Any, Any], device: str, threads: int) -> None:
    """What a process does: answers one part after the other, until nobody listens."""
    torch.set_num_threads(threads)
    with suppress(EOFError, ConnectionError):
        while True:
            items = pipe.recv()
            try:
                for found in task(device, items):
                    _send(pipe, found)
                _send(pipe, DONE)
            except ConnectionError:
                raise
            except Exception as error:
                _send(pipe, error)


def _send(pipe: Connection, value: Any) -> None:
    pipe.send_bytes(_Pickler.dumps(value))


class _Pickler(ForkingPickler):
    """Tensors as arrays: torch would share their memory between the processes, of which each needs a file."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return torch.from_numpy, (value.detach().cpu().numpy(),)
        return NotImplemented


def _by_executor(
    task: Task[Item, Result], parts: Iterator[tuple[int, Sequence[Item]]], devices: Sequence[str], executor: Executor
) -> Iterator[tuple[int, Result]]:
    running: dict[Future[list[tuple[int, Result]]], tuple[str, int]] = {}  # device and first item of each call

    def begin(device: str) -> None:
        if (part := next(parts, None)) is not None:
            running[executor.submit(_listed, task, device, part[1])] = device, part[0]

    for device in devices:
        begin(device)
    try:
        while running:
            for call in wait(running, return_when=FIRST_COMPLETED).done:
                device, first = running.pop(call)
                found = call.result()
                begin(device)
                yield from ((first + i, result) for i, result in found)
    finally:
        for call in running:
            call.cancel()


def _listed(task: Task[Item, Result], device: str, items: Sequence[Item]) -> list[tuple[int, Result]]:
    return list(task(device, items))
