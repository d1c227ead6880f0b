"""The summaries of the shards of a run: read, and held against each other before anything is merged."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ENDING = ".summary.json"


@dataclass(frozen=True)
class Part:
    """What one shard says of itself."""

    path: Path  # of its summary
    summary: dict[str, Any]

    @property
    def index(self) -> int:
        return int(self.summary["shard"]["index"])

    @property
    def count(self) -> int:
        return int(self.summary["shard"]["count"])

    @property
    def done(self) -> list[int]:
        """Numbers of the inputs that are in its outputs, in their order."""
        return list(self.summary["shard"]["done"])

    @property
    def mark(self) -> str:
        """By which its files are known."""
        return f"-{self.index}-of-{self.count}"

    def __str__(self) -> str:
        return f"shard {self.index}/{self.count}"


def read_parts(paths: Sequence[Path]) -> list[Part]:
    """
    Raises:
        ValueError: a file without a summary, or whose summary is of no shard.
        OSError: a file that is not there.
    """
    found = list[Path]()
    for path in paths:
        if path.is_dir():
            inside = [each for each in sorted(path.glob(f"*{ENDING}")) if "shard" in _read(each)]
            if not inside:
                raise ValueError(f"{path}/ holds no summary of a shard; name outputs of runs with --shard")
            found += inside
        else:
            found.append(_summary_of(path))
    return [_part(path) for path in dict.fromkeys(found)]


def _summary_of(path: Path) -> Path:
    from atomsml.cli.files import summary_path

    if path.name.endswith(ENDING):
        return path
    summary = summary_path(path)
    if not summary.exists():
        what = "is not there" if not path.exists() else f"has no summary {summary} beside it"
        raise ValueError(f"{path} {what}; name the outputs of runs with --shard, and keep their summaries")
    return summary


def _read(path: Path) -> dict[str, Any]:
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        summary = None
    if not isinstance(summary, dict):
        raise ValueError(f"{path} is no summary of a run; run that shard again")
    return summary


def _part(path: Path) -> Part:
    summary = _read(path)
    if "shard" not in summary:
        raise ValueError(f"{path} is not of a shard: its run had no --shard")
    return Part(path, summary)


def complete(parts: Sequence[Part]) -> list[Part]:
    """The parts in their order.

    Raises:
        ValueError: they are of different runs, one was interrupted, lacks, or is there twice; says which.
    """
    first = parts[0]
    for part in parts:
        if part.summary["interrupted"]:
            raise ValueError(f"{part} was interrupted ({part.path}); let it go on with --resume, then merge")
        _check_same_run(first, part)
    counts = Counter(part.index for part in parts)
    for index, count in sorted(counts.items()):
        if count > 1:
            paths = ", ".join(str(part.path) for part in parts if part.index == index)
            raise ValueError(f"shard {index}/{first.count} is there twice ({paths}); name each once")
    missing = [f"{index}/{first.count}" for index in range(first.count) if index not in counts]
    if missing:
        raise ValueError(f"shards are missing: {', '.join(missing)}; run them, then merge")
    numbers = sorted(n for part in parts for n in (*part.done, *part.summary["shard"]["refused"]))
    if numbers != list(range(len(numbers))):
        raise ValueError("the shards do not hold each input once; run them again with the same inputs")
    return sorted(parts, key=lambda part: part.index)


def _check_same_run(first: Part, part: Part) -> None:
    """By what --resume compares, but for the number of the shard."""
    from atomsml.cli.simulate.identity import check_same_run

    if part.summary["command"] != first.summary["command"]:
        raise ValueError(f"{part.path} is of {part.summary['command']}, {first.path} of {first.summary['command']}")
    if part.count != first.count:
        raise ValueError(f"{part.path} is of {part.count} shards, {first.path} of {first.count}")
    told, known = (_without_shard(each.summary["run"]) for each in (part, first))
    check_same_run(told, known, part.path)


def _without_shard(run: dict[str, Any]) -> dict[str, Any]:
    return {**run, "options": {key: value for key, value in run["options"].items() if key != "shard"}}
