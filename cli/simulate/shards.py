"""--shard i/n: a part of the inputs, for one of n processes that together treat each input once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

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
