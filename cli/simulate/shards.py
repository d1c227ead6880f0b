"""--shard i/n: a part of the inputs, for one of n processes that together treat each input once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

Input = TypeVar("Input")

ShardOption = Annotated[
    str | None,
    typer.Option("--shard", metavar="I/N", help="Treat every N-th input from the I-th on, counted from 0, as in 0/4."),
]


@dataclass(frozen=True)
class Shard:
    """Number `index` of `count` parts."""

    index: int = 0
    count: int = 1

    @staticmethod
    def parse(words: str | None) -> Shard:
        """Of "0/4"; everything where nothing is said.

        Raises:
            ValueError: other words, or a number that is not below that of the parts.
        """
        if words is None:
            return Shard()
        found = re.fullmatch(r"(\d+)/(\d+)", words)
        if found is None or int(found[1]) >= int(found[2]):
            raise ValueError(f"--shard must be I/N with I from 0 to N-1, as 0/4 to 3/4, got {words!r}")
        return Shard(int(found[1]), int(found[2]))

    def of(self, inputs: list[Input]) -> list[Input]:
        """Every `count`-th: neighbours, which are often alike, go to different parts.

        Raises:
            ValueError: there are fewer inputs than parts, and none is left for this one.
        """
        if self.index >= len(inputs):
            raise ValueError(f"nothing is left for shard {self.index}/{self.count} of {len(inputs)} inputs")
        return inputs[self.index :: self.count]

    def name(self, path: Path) -> Path:
        """`path` for one part of several: `relaxed-0-of-4.extxyz`."""
        return path if self.count == 1 else path.with_stem(f"{path.stem}-{self.index}-of-{self.count}")

    def facts(self, inputs: Sequence[object]) -> dict[str, Any]:
        """For the summary: which of all inputs are in the outputs, in their order, and which were refused.

        Args:
            inputs: those of this part, as they are after the work.
        """
        from atomsml.io import Refused

        if self.count == 1:
            return {}
        numbers = [self.index + self.count * place for place in range(len(inputs))]
        refused = [number for number, each in zip(numbers, inputs, strict=True) if isinstance(each, Refused)]
        done = [number for number in numbers if number not in set(refused)]
        return {"shard": {"index": self.index, "count": self.count, "done": done, "refused": refused}}

    def seed(self, seed: int) -> int:
        """Parts draw numbers of their own: the upper half of the 64 bits of a seed tells them apart."""
        return seed + (self.index << 32)
