"""screen(): many items by any executor of `concurrent.futures`, such as those of Parsl and Dask; each exactly once.

| what happens | what is done |
|---|---|
| work raises | the items of the chunk are tried one by one, where it was |
| an item fails | it is tried again, alone, `retries` times; then it is a Failure |
| a worker is lost | what it had is divided in halves, down to the item that ends workers, which is a Failure |
| a whole pool breaks | another is made; what the broken one had is tried one chunk at a time, to know which it was |
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Executor, Future, wait
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from atomsml.errors import one_line
from atomsml.properties.task import Failure

Item = TypeVar("Item")
Result = TypeVar("Result")
Work: TypeAlias = Callable[[Sequence[Item]], Iterable[Result | Failure]]

HOPELESS = 3  # items lost, each alone and several times, before any answer: it is not the items


def screen(
    items: Sequence[Item],
    work: Work[Item, Result],
    executor: Executor | Callable[[], Executor],
    chunk: int = 64,
    at_once: int | None = None,
    retries: int = 2,
) -> Iterator[tuple[int, Result | Failure]]:
    """The number of an item and what the work finds of it, or a Failure, in the order in which they are done.

        >>> from concurrent.futures import ThreadPoolExecutor
        >>> from ase.build import molecule
        >>> from atomsml.interfaces.screening.screen import screen
        >>> from atomsml.interfaces.screening.works import Energies
        >>> structures = [molecule(name) for name in ("H2O", "CH4", "NH3")]
        >>> with ThreadPoolExecutor(1) as executor:
        ...     found = dict(screen(structures, Energies("organic-xtb"), executor, chunk=2))
        >>> sorted(found)
        [0, 1, 2]

    Args:
        work: of some items gives a result or a Failure for each, in their order. It is called in other processes, so
            that it must be what the executor can send: a function of a module, or an object of a class of one.
        executor: is left open; or a function that makes one, which is called again where a pool breaks, as a
            ProcessPoolExecutor does when a process dies, and whose executors are shut down.
        chunk: items of a call; a model evaluates them in common batches.
        at_once: calls that are handed out at a time, at least as many as there are workers; twice the cores of this
            machine by default.
        retries: how often an item is tried again, alone, before it is a Failure.

    Raises:
        ValueError: numbers that are not positive, or work that gives more or fewer results than items.
        BrokenExecutor: the pool broke, and there is no function that makes another.
        ChildProcessError: workers are lost whatever they do, or cannot be sent the work; says how.
    """
    most = 2 * (os.cpu_count() or 1) if at_once is None else at_once
    for name, number, least in (("chunk", chunk, 1), ("at_once", most, 1), ("retries", retries, 0)):
        if number < least:
            raise ValueError(f"{name} must be at least {least}, got {number}")
    return _Screening(items, work, executor, most, retries).results(chunk)


@dataclass(frozen=True)
class _Chunk:
    numbers: range
    tries: int = 0  # of its item, where it is one that has failed

    def halves(self) -> list[_Chunk]:
        middle = len(self.numbers) // 2
        return [_Chunk(self.numbers[:middle]), _Chunk(self.numbers[middle:])]

    def again(self) -> _Chunk:
        return _Chunk(self.numbers, self.tries + 1)


class _Screening(Generic[Item, Result]):
    """What is left, and what is on its way."""

    def __init__(
        self,
        items: Sequence[Item],
        work: Work[Item, Result],
        executor: Executor | Callable[[], Executor],
        at_once: int,
        retries: int,
    ) -> None:
        self.items, self.work, self.at_once, self.retries = items, work, at_once, retries
        self.make = None if isinstance(executor, Executor) else executor
        self.executor = executor if isinstance(executor, Executor) else executor()
        self.waiting, self.suspects = deque[_Chunk](), deque[_Chunk]()  # suspects run alone
        self.running: dict[Future[list[Result | Failure]], _Chunk] = {}
        self.answered, self.lost = False, 0

    def results(self, size: int) -> Iterator[tuple[int, Result | Failure]]:
        numbers = range(len(self.items))
        self.waiting.extend(_Chunk(numbers[first : first + size]) for first in numbers[::size])
        try:
            while self.waiting or self.suspects or self.running:
                self._hand_out()
                for chunk, future, broken in self._ended():
                    yield from self._settled(chunk, future, broken)
        finally:
            for future in self.running:
                with suppress(NotImplementedError):  # Parsl's cannot be
                    future.cancel()
            if self.make is not None:
                self.executor.shutdown(wait=not self.running)

    def _hand_out(self) -> None:
        if self.suspects:
            if not self.running:
                self._submit(self.suspects)
            return
        while self.waiting and len(self.running) < self.at_once:
            if not self._submit(self.waiting):
                return  # the pool broke, which those that are running will tell

    def _submit(self, queue: deque[_Chunk]) -> bool:
        items = [self.items[i] for i in queue[0].numbers]
        try:
            future: Future[list[Result | Failure]] = self.executor.submit(_answers, self.work, items, queue[0].tries)
        except BrokenExecutor as error:  # while it had nothing to do
            if self.running:
                return False
            self._renew(error)
            return self._submit(queue)
        self.running[future] = queue.popleft()
        return True

    def _ended(self) -> list[tuple[_Chunk, Future[list[Result | Failure]], bool]]:
        """Calls that have ended, each with whether others were lost with it; after a break there is a new executor."""
        ended = wait(self.running, return_when=FIRST_COMPLETED).done
        breaks = [error for future in ended if isinstance(error := _error(future), BrokenExecutor)]
        if breaks:
            ended = wait(self.running).done  # all end with it
            self._renew(breaks[0])
        together = sum(isinstance(_error(future), BrokenExecutor) for future in ended) > 1
        return [(self.running.pop(future), future, together) for future in list(self.running) if future in ended]

    def _renew(self, error: BrokenExecutor) -> None:
        if self.make is None:
            advice = "give a function that makes an executor, and what was lost is tried again"
            raise type(error)(f"{one_line(str(error))}; {advice}") from error
        self.executor.shutdown(wait=False)
        self.executor = self.make()

    def _settled(
        self, chunk: _Chunk, future: Future[list[Result | Failure]], together: bool
    ) -> Iterator[tuple[int, Result | Failure]]:
        """What is known of the items of a call that has ended; the others are put back."""
        error = _error(future)
        if error is not None:
            yield from self._lost(chunk, error, together)
            return
        answers = future.result()
        if len(answers) != len(chunk.numbers):
            raise ValueError(f"the work must give a result for each item: {len(answers)} for {len(chunk.numbers)}")
        self.answered = True
        for number, answer in zip(chunk.numbers, answers, strict=True):
            if isinstance(answer, Failure) and chunk.tries < self.retries:
                self.waiting.append(_Chunk(range(number, number + 1), chunk.tries + 1))
            else:
                yield number, answer

    def _lost(self, chunk: _Chunk, error: BaseException, together: bool) -> Iterator[tuple[int, Failure]]:
        broken = isinstance(error, BrokenExecutor)
        queue = self.suspects if broken else self.waiting
        if broken and together:
            queue.append(chunk)  # perhaps another was to blame
        elif len(chunk.numbers) > 1:
            queue.extendleft(chunk.halves())
        elif chunk.tries < self.retries:
            queue.appendleft(chunk.again())
        else:
            reason = f"its worker was lost: {_told(error)}"
            self.lost += 1
            if not self.answered and self.lost == HOPELESS:
                raise ChildProcessError(f"no worker answers; the last was lost by {_told(error)}") from error
            yield chunk.numbers[0], Failure(reason)


def _answers(work: Work[Item, Result], items: Sequence[Item], tries: int = 0) -> list[Result | Failure]:
    """What a worker does. Whatever else comes back from there is about the worker, not about the items.

    Args:
        tries: makes each a call of its own for Dask, which does not repeat one that it knows.
    """
    try:
        return list(work(items))
    except Exception as error:
        if len(items) == 1:
            return [Failure(_told(error))]
        return [answer for item in items for answer in _answers(work, [item])]


def _error(future: Future[Any]) -> BaseException | None:
    try:
        return future.exception()
    except CancelledError as error:
        return error


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {one_line(str(error))}"
