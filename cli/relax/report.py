"""The page of `atomsml relax --report`: each structure before and after, beside the table of all."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atomsml.cli.job import Job
    from atomsml.cli.relax.journal import Journal
    from atomsml.report import Fragment


def page_parts(job: Job, journal: Journal) -> list[Fragment]:
    """What --report shows, in the order of the inputs; what was refused has a list of its own."""
    from atomsml.cli.relax.records import table_of
    from atomsml.io import StructureRecord
    from atomsml.report import Scene, bullets, cards, section, viewer

    numbers = sorted(journal.records)
    records = [journal.records[number] for number in numbers]
    scenes = []
    for number, record in zip(numbers, records, strict=True):
        given = job.inputs[number]
        assert isinstance(given, StructureRecord)
        name = f"{record['file']}, frame {record['index']}: {record['formula']}"
        scenes.append(Scene(name, [given.atoms, journal.images[number]], ["before", "after"]))
    converged = sum(record["converged"] for record in records)
    counts = [(f"{len(records):,}", "", "structures"), (f"{converged:,}", "", "converged")]
    refused = [f"{each['file']}, frame {each['index']}: {each['refused']}" for each in job.refusals()]
    return [
        cards(counts),
        section("Structures", viewer(scenes, *table_of(records))),
        *([section("Not relaxed", bullets(refused))] if refused else []),
    ]
