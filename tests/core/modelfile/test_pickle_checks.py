"""Pickles are refused for what they ask before anything of them is built."""

import pickle
import struct
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from atomsml.modelfile.pickle_checks import MOST_LEVELS, MOST_WORK, HostilePickle, check_pickle

PROTOCOL = b"\x80\x02"


def doubled(levels: int, join: bytes) -> bytes:
    """x = (x, x), over and over: `join` makes one value of two."""
    return PROTOCOL + b")q\0" + (b"0h\0h\0" + join + b"q\0") * levels


HOSTILE = {
    "memo index in four bytes": (PROTOCOL + b"Nr" + struct.pack("<I", 2**31 - 1) + b".", "numbers a value 2147483647"),
    "memo index in text": (b"Np1000000\n.", "numbers a value 1000000"),
    "memo index in one byte": (PROTOCOL + b"Nq\xff.", "numbers a value 255"),
    "nested tuples as a key": (PROTOCOL + b"})" + b"\x85" * 10**5 + b"K\x01s.", "levels deep"),
    "nested lists": (PROTOCOL + b"]" * 1000 + b"a" * 999 + b".", "levels deep"),
    "nested dictionaries": (PROTOCOL + b"}" + b"K\1}" * 1000 + b"s" * 1000 + b".", "levels deep"),
    "a tuple as a key": (PROTOCOL + b"}K\1\x85K\1s.", "a key"),
    "tuples as keys of many items": (PROTOCOL + b"}(K\1K\1K\1\x85K\1u.", "a key"),
    "a tuple as a key, protocol 0": (b"((I1\ntI1\nd.", "a key"),
    "a list in a set": (b"\x80\x04\x8f(]\x90.", "a key"),
    "a tuple in a frozen set": (b"\x80\x04()\x91.", "a key"),
    "tuples of the same tuple": (doubled(40, b"\x86") + b".", "when written out"),
    "lists of the same list": (PROTOCOL + b"]q\0" + b"0](h\0h\0eq\0" * 40 + b".", "when written out"),
    "a list that is filled where it stands": (PROTOCOL + b"]q\0]q\1h\0a0h\0K\1a.", "stands in another"),
    "a long text, many times": (b"]T" + struct.pack("<i", 10**6) + b"x" * 10**6 + b"q\0a" + b"h\0a" * 20, "written"),
    "an integer of a million bytes": (PROTOCOL + b"\x8b" + struct.pack("<i", 10**6) + b"\1" * 10**6 + b".", "bits"),
    "an integer of 200 digits": (b"L1" + b"0" * 200 + b"L\n.", "bits"),
    "too many values": (PROTOCOL + b"]0" * MOST_WORK + b"N.", "steps"),
    "too many copies": (
        PROTOCOL + b"c__builtin__\nset\nq\0(" + b"K\1" * 10**4 + b"l\x85q\1" + b"h\0h\1R0" * 100 + b"N.",
        "steps",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_pickle_that_asks_for_too_much_is_refused(name: str) -> None:
    stream, words = HOSTILE[name]
    with pytest.raises(HostilePickle, match=words):
        check_pickle(stream)


@pytest.mark.parametrize(
    "stream",
    [
        b"\x8d" + struct.pack("<Q", 2**40) + b"x.",  # lengths beyond the end
        b"\x8e" + struct.pack("<Q", 2**40) + b"x.",
        b"\x96" + struct.pack("<Q", 2**40) + b"x.",
        b"X\xff\xff\xff\x7fx.",
        b"\x8b\xff\xff\xff\x7fx.",
        b"\x8b\xff\xff\xff\xff.",
        b"I1\n",  # no end
        b"",
        b"\xff.",  # no such instruction
        b".",  # nothing to work on
        b"}K\1s.",
        b"K\1(s.",
        b"t.",
        b"K\1u.",
        b"q\0.",
        b"h\7.",
    ],
)  # fmt: skip
def test_a_broken_pickle_is_an_ordinary_error(stream: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - in the words of the standard library, for most
        check_pickle(stream)


def test_the_limits_leave_room() -> None:
    """A tuple as deep as is allowed, and values numbered one after the other."""
    check_pickle(PROTOCOL + b")" + b"\x85" * MOST_LEVELS + b".")
    check_pickle(b"".join(b"Np%d\n0" % n for n in range(1000)) + b"N.")
    with pytest.raises(HostilePickle):
        check_pickle(PROTOCOL + b")" + b"\x85" * (MOST_LEVELS + 1) + b".")


PLAIN = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text() | st.binary()
VALUES = st.recursive(
    PLAIN,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text() | st.integers(-(2**70), 2**70), inner)
        | st.sets(st.text() | st.integers(-(2**70), 2**70))
    ),
)


@given(VALUES, st.sampled_from(range(pickle.HIGHEST_PROTOCOL + 1)))
def test_every_protocol_of_python_passes(value: Any, protocol: int) -> None:
    check_pickle(pickle.dumps(value, protocol))


def test_what_the_hostile_ones_do_elsewhere() -> None:
    """One of them with ordinary tools: forty tuples, which print as 2^40; twenty are enough to see it double."""
    small, large = (pickle.loads(doubled(n, b"\x86") + b".") for n in (10, 11))
    assert len(repr(large)) > 2 * len(repr(small))
    assert sys.getsizeof(large) == sys.getsizeof(small)


@pytest.mark.parametrize("build", [dict, lambda: torch.nn.Linear(2, 2).state_dict()])
def test_state_dicts_pass(build: Callable[[], Any]) -> None:
    check_pickle(pickle.dumps({"model": build(), "epoch": 3}, 2))
