"""Work that is shared out among threads piece by piece: who is slowed down by other programs just takes fewer pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from typing import TypeVar

Worker, Task = TypeVar("Worker"), TypeVar("Task")


def share_out(
    work: Callable[[Worker, Task], None], tasks: Iterable[Task], workers: Sequence[Worker], threads: Executor | None
) -> None:
    """Call work(worker, task) for every task; each worker is busy with one task at a time.

    The first worker is the calling thread; the others need `threads`, as many as there are workers left. Nobody waits
    for a turn while there are tasks: kernels release Python's lock. Raises what `work` raises.
    """
    remaining = iter(list(tasks))  # taking the next one of a list is a single step, also among threads

    def serve(worker: Worker) -> None:
        for task in remaining:
            work(worker, task)

    others = [threads.submit(serve, worker) for worker in workers[1:]] if threads is not None else []
    serve(workers[0])
    for other in others:
        other.result()
