"""Who runs at the same time: never more than there is room for, everybody once, in order."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atomsml.simulate.batching.in_flight import InFlight, Room, Size

sizes = st.lists(st.builds(Size, st.integers(1, 30), st.integers(0, 900)), max_size=40)


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(sizes, st.integers(1, 60), st.integers(1, 3000), st.randoms(use_true_random=False))
def test_everybody_runs_once_in_order_and_in_the_room_that_there_is(given, atoms, memory, random):
    room = Room(atoms=atoms, memory=memory, per_atom=3.0, per_edge=2.0)
    flight, running, began = InFlight(len(given), given.__getitem__, room), list[int](), list[int]()
    while flight:
        began += (entering := flight.enter())
        running += entering
        assert running
        if len(running) > 1:
            assert sum(given[i].atoms for i in running) <= atoms
            assert sum(3 * given[i].atoms + 2 * given[i].edges for i in running) <= memory
        if len(began) < len(given):  # no room for the next
            assert not room.holds(sum((given[i] for i in [*running, len(began)]), Size()))
        done = random.sample(running, random.randint(1, len(running)))
        flight.leave(done)
        running = [i for i in running if i not in done]
    assert began == list(range(len(given)))


def test_sizes_are_asked_once_and_when_they_are_next():
    asked = list[int]()

    def size_of(i: int) -> Size:
        asked.append(i)
        return Size(atoms=10)

    flight = InFlight(5, size_of, Room(atoms=20))
    assert flight.enter() == [0, 1]
    assert asked == [0, 1, 2]
    assert flight.enter() == []
    flight.leave([1])
    assert flight.enter() == [2]
    assert asked == [0, 1, 2, 3]


def test_without_limits_all_run():
    flight = InFlight(100, lambda _: Size(1000, 100_000), Room())
    assert flight.enter() == list(range(100))
    with pytest.raises(KeyError):
        flight.leave([100])
