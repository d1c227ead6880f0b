"""What a journal does not have yet: each structure is computed and kept, until all are done or the run is stopped."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from atomsml.cli.job import Job
    from atomsml.io import StructureRecord

Result = TypeVar("Result")


def compute_waiting(
    job: Job,
    done: Container[int],
    compute: Callable[[dict[int, StructureRecord]], Iterator[tuple[int, Result]]],
    keep: Callable[[int, StructureRecord, Result], None],
) -> KeyboardInterrupt | ChildProcessError | None:
    """Compute every structure of a job that is not done, and keep it when it is there; those that are left are refused.

    Args:
        done: numbers of the inputs.
        compute: structures by these numbers -> results by them.
        keep: is not interrupted.

    Returns:
        The request to stop, if there was one, or how the process of a device died.
    """
    from atomsml.io import StructureRecord
    from atomsml.signals import held_stops

    waiting = {
        number: structure
        for number, structure in enumerate(job.inputs)
        if isinstance(structure, StructureRecord) and number not in done
    }
    stop: KeyboardInterrupt | ChildProcessError | None = None
    try:
        for number, result in compute(dict(waiting)):
            structure = waiting.pop(number)
            with held_stops():
                keep(number, structure, result)
    except (KeyboardInterrupt, ChildProcessError) as error:
        stop = error
    for number, structure in waiting.items():
        if job.inputs[number] is structure:  # and was not refused
            job.refuse(structure, f"not done: {stop if isinstance(stop, ChildProcessError) else 'interrupted'}")
    return stop
