"""Several devices: a process each, which take parts of a list of structures; one stream of results."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from contextlib import ExitStack
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def on_devices(
    task: Callable[[str, Sequence[Item]], Sequence[Result]],
    items: Sequence[Item],
    devices: Sequence[str],
    executor: Executor | None = None,
    part: int = 256,
) -> Iterator[tuple[int, Result]]:
    """The number and the result of each item, part by part as devices are done with them.

        for i, relaxed in on_devices(relax_there, structures, ["cuda:0", "cuda:1"]):
            ...

    A device that is done takes the next part, so that quick ones take more. Each has a process of its own, started
    afresh; a device that is named twice has two.

    Args:
        task: of a device and some items gives a result for each of them, in order. It is called in other processes, so
            that it must be a function of a module, or a `functools.partial` of one. What it loads it should keep, as
            by `functools.lru_cache`: it is called for every part.
        devices: as in `AtomsMLCalculator(..., device=...)`.
        executor: any of `concurrent.futures`, as Parsl and Dask have, instead of own processes; it gets as many calls
            at a time as there are devices.
        part: items of a call.

    Raises:
        ValueError: no devices, or another number of results than items.
        BrokenExecutor: a process died, such as for want of memory.
        Exception: what the task raises; parts that have not begun are dropped.
    """
    if not devices:
        raise ValueError("give at least one device, such as cpu or cuda:0")
    starts = iter(range(0, len(items), part))
    running: dict[Future[Sequence[Result]], tuple[int, int]] = {}  # device and first item of each call
    with ExitStack() as stack:
        spawn = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
        workers = [executor or stack.enter_context(ProcessPoolExecutor(1, spawn)) for _ in devices]

        def begin(device: int) -> None:
            if (start := next(starts, None)) is not None:
                call = workers[device].submit(task, devices[device], items[start : start + part])
                running[call] = device, start

        for device in range(len(devices)):
            begin(device)
        try:
            while running:
                for call in wait(running, return_when=FIRST_COMPLETED).done:
                    device, start = running.pop(call)
                    found = call.result()
                    if len(found) != len(items[start : start + part]):
                        raise ValueError(f"{len(items[start : start + part])} items have {len(found)} results")
                    begin(device)
                    yield from enumerate(found, start)
        finally:
            for call in running:
                call.cancel()
