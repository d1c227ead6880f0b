"""Whether a pickle is safe to interpret, found out from its instructions before anything is built.

A few bytes of a pickle can ask for a memo of 64 GB, for a tuple so deep that hashing it overflows the stack of the
interpreter, or for a value that holds itself twice, forty levels deep, so that whoever walks or prints it never ends.
So the instructions are followed here once with numbers in place of values: how large each value is when it is written
out in full, and how deep. `pickletools` reads the instructions, and refuses lengths beyond the end of the file.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass
from typing import Any

MOST_BYTES = 2**26
MOST_WORK = 1_000_000  # instructions, and words in a value or in all arguments of calls; MACE files have about 20,000
MOST_LEVELS = 200  # of containers in one another
WORD = 16  # characters that count as much as one number
LONGEST_INTEGER = 128  # bits

_PLAIN = {"int", "int_or_bool", "bool", "float", "None", "str", "bytes", "bytes_or_str"}  # safe and quick to hash
_PUT = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
_GET = {"GET", "BINGET", "LONG_BINGET"}
_FILL = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS"}
_CALL = {"REDUCE", "NEWOBJ", "NEWOBJ_EX", "OBJ", "INST"}
_WITH_KEYS = {"SETITEM": 2, "SETITEMS": 2, "DICT": 2, "ADDITEMS": 1, "FROZENSET": 1}  # operands for each key


class HostilePickle(ValueError):
    """A pickle that asks for more than any model needs."""


@dataclass(slots=True)
class _Value:
    """What is known of a value before it is built."""

    size: int = 1  # numbers, and words of text, if every value inside is written out wherever it stands
    depth: int = 0
    plain: bool = False
    held: bool = False  # by another value, whose size counts this one as it is


def check_pickle(stream: bytes) -> None:
    """Follow the instructions of a pickle without carrying them out.

    Raises:
        HostilePickle: they would build more, or deeper, than any model needs.
        ValueError: they are no pickle, or end before they should.
    """
    if len(stream) > MOST_BYTES:
        raise HostilePickle(f"its pickle has {len(stream)} bytes, more than {MOST_BYTES}")
    follower = _Follower()
    for instruction, argument, _ in pickletools.genops(stream):
        follower.follow(instruction, argument)


class _Follower:
    def __init__(self) -> None:
        self.stack: list[_Value] = []
        self.marks: list[int] = []
        self.memo: dict[int, _Value] = {}
        self.work = 0

    def follow(self, instruction: pickletools.OpcodeInfo, argument: Any) -> None:
        """Take the operands of an instruction off the stack and put there what it makes."""
        name = instruction.name
        self._count(1)
        if name == "MARK":
            self.marks.append(len(self.stack))
        elif name in _PUT:
            self._put(len(self.memo) if name == "MEMOIZE" else argument)
        elif name in _GET:
            if argument not in self.memo:
                raise ValueError(f"the pickle asks for value {argument}, which it did not keep")
            self.stack.append(self.memo[argument])
        elif name == "POP" and self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            operands = self._operands([x.name for x in instruction.stack_before])
            if name in _WITH_KEYS:
                _check_keys(operands[name in _FILL :: _WITH_KEYS[name]])
            if name in _FILL:
                self._fill(operands[0], operands[1:])
            if name in _FILL or name in ("BUILD", "DUP"):
                self.stack.extend([operands[0]] * len(instruction.stack_after))
            elif instruction.stack_after:
                self.stack.append(self._made(instruction, argument, operands))

    def _count(self, work: int) -> None:
        self.work += work
        if self.work > MOST_WORK:
            raise HostilePickle(f"its pickle asks for more than {MOST_WORK} steps")

    def _put(self, index: int) -> None:
        if index > self.work:  # the interpreter has a place for every number up to the largest
            raise HostilePickle(f"its pickle numbers a value {index}, but has made {self.work} at most")
        if not self.stack:
            raise ValueError("the pickle keeps a value before it made one")
        self.memo[index] = self.stack[-1]

    def _operands(self, kinds: list[str]) -> list[_Value]:
        """The values that an instruction of such operands takes, bottom first."""
        if "mark" in kinds:
            if not self.marks:
                raise ValueError("the pickle takes values back to a mark that it did not set")
            start = self.marks.pop() - kinds.index("mark")
        else:
            start = len(self.stack) - len(kinds)
        if start < (self.marks[-1] if self.marks else 0):
            raise ValueError("the pickle takes values that it did not make")
        taken = self.stack[start:]
        del self.stack[start:]
        return taken

    def _fill(self, container: _Value, items: list[_Value]) -> None:
        if container.held:
            raise HostilePickle("its pickle changes a container that stands in another one")
        _add(container, items)

    def _made(self, instruction: pickletools.OpcodeInfo, argument: Any, operands: list[_Value]) -> _Value:
        if isinstance(argument, int) and argument.bit_length() > LONGEST_INTEGER:
            raise HostilePickle(f"its pickle has an integer of {argument.bit_length()} bits")
        length = len(argument) // WORD if isinstance(argument, str | bytes) else 0
        value = _Value(size=1 + length, plain=instruction.stack_after[0].name in _PLAIN)
        _add(value, operands)
        if instruction.name in _CALL:  # a call may copy its arguments
            self._count(value.size)
        return value


def _add(container: _Value, items: list[_Value]) -> None:
    for item in items:
        container.size += item.size
        container.depth = max(container.depth, item.depth + 1)
        item.held = True
    if container.size > MOST_WORK:
        raise HostilePickle(f"its pickle holds a value that is larger than {MOST_WORK} when written out")
    if container.depth > MOST_LEVELS:
        raise HostilePickle(f"its pickle nests values more than {MOST_LEVELS} levels deep")


def _check_keys(keys: list[_Value]) -> None:
    if not all(key.plain for key in keys):
        raise HostilePickle("its pickle has a key of a dictionary that is neither text nor a number")
