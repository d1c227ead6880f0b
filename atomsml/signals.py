"""Requests to stop: Ctrl-C, SIGTERM of a batch system and SIGHUP of a closed terminal are one exception.

A process that was started with one of them ignored, as `nohup` and shells do for background jobs, goes on ignoring it.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOPS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if name in signal.__dict__)


class Stopped(KeyboardInterrupt):
    """The process was asked to stop by the signal `number`."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


def exit_status(stop: KeyboardInterrupt) -> int:
    """As shells have it: 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP."""
    return 128 + (stop.number if isinstance(stop, Stopped) else signal.SIGINT)


@contextmanager
def raising_stops() -> Iterator[None]:
    """Let every request to stop raise Stopped in the main thread, wherever that is."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(number)

    before = {number: signal.signal(number, stop) for number in _heard()}
    try:
        yield
    finally:
        _restore(before)


@contextmanager
def held_stops() -> Iterator[None]:
    """Let a request to stop wait until the block has ended: nothing in it is left half done."""
    noted: list[int] = []
    before = {number: signal.signal(number, lambda number, frame: noted.append(number)) for number in _heard()}
    try:
        yield
    finally:
        _restore(before)
        if noted:
            signal.raise_signal(noted[0])


@contextmanager
def ignored_stops() -> Iterator[None]:
    """Let requests to stop be ignored, ever after by processes that are started in the block, which should be short."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _heard()}
    try:
        yield
    finally:
        _restore(before)


@contextmanager
def first_stop_noted(note: Callable[[], None]) -> Iterator[list[Stopped]]:
    """Let the first request to stop call `note` and be noted in the list; the next acts as outside the block."""
    noted: list[Stopped] = []

    def stop(number: int, frame: FrameType | None) -> None:
        _restore(before)
        noted.append(Stopped(number))
        note()

    before = {number: signal.signal(number, stop) for number in _heard()}
    try:
        yield noted
    finally:
        _restore(before)


def _heard() -> list[int]:
    """Those that are not ignored; none outside the main thread, which alone handles signals."""
    if threading.current_thread() is not threading.main_thread():
        return []
    return [number for number in STOPS if signal.getsignal(number) not in (signal.SIG_IGN, None)]


def _restore(before: dict[int, signal._HANDLER]) -> None:
    for number, handler in before.items():
        signal.signal(number, handler)
