"""Which systems of a queue run at the same time: those that are done make room for the next."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """What tells how much memory and time a system takes."""

    atoms: int = 0
    edges: int = 0  # of its neighbour list

    def __add__(self, other: Size) -> Size:
        return Size(self.atoms + other.atoms, self.edges + other.edges)


@dataclass(frozen=True)
class Room:
    """For how much a batch may have room.

    Memory is linear: per_atom * atoms + per_edge * edges; `memory.measure_room` finds out how much that is.
    """

    atoms: float = math.inf
    memory: float = math.inf  # bytes
    per_atom: float = 0.0  # bytes
    per_edge: float = 0.0  # bytes

    def needed(self, size: Size) -> float:
        """Bytes."""
        return self.per_atom * size.atoms + self.per_edge * size.edges

    def holds(self, size: Size) -> bool:
        return size.atoms <= self.atoms and self.needed(size) <= self.memory


ON_A_CPU = Room(atoms=2000)  # more take no less time each


class InFlight:
    """A queue of systems, numbered from 0, of which as many run as there is room for: in order, and at least one.

        flight = InFlight(len(structures), size_of, Room(atoms=2000))
        while flight:
            for i in flight.enter():
                ...  # starts
            flight.leave(done)

    Args:
        count: of systems.
        size_of: of each; asked when it is next.
        room: of all that run together.
    """

    def __init__(self, count: int, size_of: Callable[[int], Size], room: Room) -> None:
        self._waiting, self._running = deque(range(count)), dict[int, Size]()
        self._size_of, self._room = size_of, room
        self._next: Size | None = None  # of the first that waits, once it is known

    def __bool__(self) -> bool:
        """Whether any waits or runs."""
        return bool(self._waiting or self._running)

    def enter(self) -> list[int]:
        """Those that begin to run now."""
        entering, used = list[int](), sum(self._running.values(), Size())
        while self._waiting:
            size = self._next = self._next or self._size_of(self._waiting[0])
            if self._running and not self._room.holds(used + size):
                break
            entering.append(self._waiting.popleft())
            self._running[entering[-1]], self._next = size, None
            used = used + size
        return entering

    def leave(self, systems: Sequence[int]) -> None:
        """These are done."""
        for i in systems:
            del self._running[i]
