"""Schedules beside numpy's interpolation."""

import ase
import numpy as np
import pytest
import torch

from atomsml.simulate.schedules import Schedule, temperatures
from atomsml.simulate.state import State


def at(step: int, systems: int = 1) -> State:
    state = State.of([ase.Atoms("He")] * systems)
    state.step = torch.full_like(state.step, step)
    return state


def test_lines_between_points_are_those_of_numpy():
    steps, values = [0, 100, 300, 301], [300.0, 900.0, 900.0, 50.0]
    schedule = Schedule(*zip(steps, values, strict=True))
    for step in (0, 1, 50, 100, 200, 300, 301, 5000):
        assert schedule(at(step)).tolist() == pytest.approx([np.interp(step, steps, values)])
    late = Schedule((10, 1.0), (20, 3.0))
    assert [late(at(step)).item() for step in (0, 15, 30)] == [1.0, 2.0, 3.0]


def test_each_structure_has_its_own_values_whatever_else_is_there():
    schedule = Schedule((0, [300.0, 600.0, 10.0]), (10, [500.0, 600.0, 0.0]))
    state = at(5, 3)
    assert schedule(state).tolist() == [400.0, 600.0, 5.0]
    assert schedule(state.systems(torch.tensor([1, 2]))).tolist() == [600.0, 5.0]
    assert Schedule.of([1.0, 2.0, 3.0])(state).tolist() == [1.0, 2.0, 3.0]
    assert Schedule.of(7.0)(state).tolist() == [7.0] * 3


def test_what_is_no_schedule_is_refused():
    with pytest.raises(ValueError, match=r"steps increase, got steps \[0, 0\]"):
        Schedule((0, 1.0), (0, 2.0))
    with pytest.raises(ValueError, match=r"different numbers of values: \[1, 2\]"):
        Schedule((0, 1.0), (5, [2.0, 3.0]))
    with pytest.raises(ValueError, match="values for 2 structures, and there are more"):
        Schedule.of([1.0, 2.0])(at(0, 3))
    for wrong in (-1.0, float("nan"), [300.0, float("inf")]):
        with pytest.raises(ValueError, match="temperatures must be numbers of K"):
            temperatures(wrong)
