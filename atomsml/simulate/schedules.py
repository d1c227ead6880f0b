"""Schedule: a temperature or pressure as a function of the step, for all systems or for each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeAlias

import torch
from torch import Tensor

from atomsml.simulate.state import State


class Schedule:
    """Straight lines between points (step, value), constant before the first and after the last.

        Schedule((0, 300.0))                                  # constant
        Schedule((0, 300.0), (10000, 1000.0))                 # a ramp
        Schedule((0, [300.0, 600.0]), (5000, [900.0, 600.0])) # of each structure its own, in their order

    Raises:
        ValueError: no points, steps that do not increase, or numbers of values that differ.
    """

    def __init__(self, *points: tuple[int, float | Sequence[float]]) -> None:
        steps = [step for step, _ in points]
        if not points or any(a >= b for a, b in pairwise(steps)):
            raise ValueError(f"a schedule needs points whose steps increase, got steps {steps}")
        rows = [[value] if isinstance(value, int | float) else list(value) for _, value in points]
        if len({len(row) for row in rows}) > 1:
            raise ValueError(f"the points of a schedule have different numbers of values: {[len(row) for row in rows]}")
        self.points = points
        values = torch.tensor(rows, dtype=torch.float64)  # (points, structures or 1)
        lines = torch.tensor(steps, dtype=torch.float64), values[0], values.diff(dim=0).T.contiguous()
        self._lines: dict[torch.device, tuple[Tensor, Tensor, Tensor]] = {torch.device("cpu"): lines}

    @property
    def values(self) -> list[float]:
        """All that occur at its points."""
        return [x for _, value in self.points for x in ([value] if isinstance(value, int | float) else value)]

    @staticmethod
    def of(value: Value) -> Schedule:
        """What is given as a number, one for each structure, or a Schedule already."""
        return value if isinstance(value, Schedule) else Schedule((0, value))

    def __call__(self, state: State) -> Tensor:
        """(systems,) float64: the value of each at its present step."""
        if state.device not in self._lines:
            steps, first, changes = self._lines[torch.device("cpu")]
            self._lines[state.device] = steps.to(state.device), first.to(state.device), changes.to(state.device)
        steps, first, changes = self._lines[state.device]
        if first.numel() == 1:
            first, changes = first.expand(state.num_systems), changes.expand(state.num_systems, -1)
        else:
            try:
                first, changes = first[state.index], changes[state.index]
            except IndexError:
                raise ValueError(f"a schedule has values for {len(first)} structures, and there are more") from None
        if len(steps) == 1:
            return first
        passed = ((state.step[:, None] - steps[:-1]) / steps.diff()).clamp(0, 1)  # (systems, lines)
        return first + (passed * changes).sum(dim=1)


def temperatures(value: Value) -> Schedule:
    """Of temperatures in K.

    Raises:
        ValueError: one is not a number, or below zero.
    """
    schedule = Schedule.of(value)
    if not all(0 <= x < math.inf for x in schedule.values):
        raise ValueError(f"temperatures must be numbers of K, not below zero, got {schedule.values}")
    return schedule


def pressures(value: Value) -> Schedule:
    """Of pressures in GPa.

    Raises:
        ValueError: one is not a finite number.
    """
    schedule = Schedule.of(value)
    if not all(math.isfinite(x) for x in schedule.values):
        raise ValueError(f"pressures must be numbers of GPa, got {schedule.values}")
    return schedule


Value: TypeAlias = float | Sequence[float] | Schedule
