"""--device of commands that can use several at a time, as cuda:0,cuda:1: a process for each."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

if TYPE_CHECKING:
    from atomsml.cli.job import Job
    from atomsml.interfaces.ase import AtomsMLCalculator

Item = TypeVar("Item")
Result = TypeVar("Result")

DevicesOption = Annotated[
    str,
    typer.Option(
        "--device",
        help="Where to compute: cpu, cuda, cuda:N or mps; auto takes a GPU if there is one. Several, as cuda:0,cuda:1, "
        "share the structures, with a process for each.",
    ),
]


def devices_of(words: str, precision: str) -> list[str]:
    """One or several.

    Raises:
        ValueError: as `select_device`, or "auto" among several.
    """
    from atomsml.cli.job import importing

    with importing():
        from atomsml.device import select_device

    found = words.split(",")
    for word in found:
        select_device(word, precision)
        if len(found) > 1 and word.lower() == "auto":
            raise ValueError(f"--device {words}: auto is one device; name each of several, as cuda:0,cuda:1")
    return found


def stream(
    job: Job,
    devices: Sequence[str],
    task: Callable[[AtomsMLCalculator, Sequence[Item]], Iterable[tuple[int, Result]]],
    items: Sequence[Item],
    part: int,
) -> Generator[tuple[int, Result]]:
    """What a task finds, here with the calculator of the job on one device, otherwise in processes: see `on_devices`.

    Raises:
        ChildProcessError: at the end: one of the processes died; the others have finished what was left.
    """
    from atomsml.simulate.batching.processes import on_devices

    if len(devices) == 1:
        yield from task(job.calculator, items)
        return
    options = job.calculator.parameters
    there = partial(_there, task, job.model, options["precision"], options["exact"], options["d3"])
    yield from on_devices(there, items, devices, part=part)


def _there(
    task: Callable[[AtomsMLCalculator, Sequence[Item]], Iterable[tuple[int, Result]]],
    model: str,
    precision: str,
    exact: bool,
    d3: str | None,
    device: str,
    items: Sequence[Item],
) -> Iterable[tuple[int, Result]]:
    return task(_calculator(model, device, precision, exact, d3), items)


@lru_cache
def _calculator(model: str, device: str, precision: str, exact: bool, d3: str | None) -> AtomsMLCalculator:
    from atomsml.interfaces.ase import AtomsMLCalculator

    return AtomsMLCalculator(model, device, precision, exact=exact, d3=d3)
