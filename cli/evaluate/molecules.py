"""`atomsml evaluate molecules`: how good generated molecules are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from atomsml.cli.options import ConfigOption, DeviceOption, FormatOption, JsonOption, PrecisionOption, StrictOption

if TYPE_CHECKING:
    import ase

    from atomsml.generative.molecules.metrics.evaluate import Evaluation, Reference
    from atomsml.generative.molecules.metrics.results import Metric
    from atomsml.io import Refused, StructureRecord
    from atomsml.potential import Predictor

Item = TypeVar("Item")

DIGITS = {"A": 4, "degree": 2, "kcal/mol": 2}  # in the table, by unit


def evaluate_molecules(
    context: typer.Context,
    inputs: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Files of molecules, of any format that relax reads, or .h5.")
    ],
    suites: Annotated[
        str | None,
        typer.Option(help="Of edm,strict,geometry,posebusters. [default: edm,strict; geometry where it has a basis]"),
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(help="Molecules to compare with, as those of training; or SMILES alone, .smi, .csv.")
    ] = None,
    relax: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Relax with this potential, and say how strained they were.")
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="Write a row for each molecule: SMILES, and why it failed.")] = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "mixed",
    format: FormatOption = None,
    strict: StrictOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """How good generated molecules are, with 95 % confidence intervals.

    edm counts stable atoms and molecules as the EDM paper does. strict perceives bonds from positions, whatever bonds
    the file has, and asks for usual valences, one piece, no charge, no radicals; unique is of the valid, novel of the
    unique. geometry says how far bond lengths, angles and torsions are from those of the reference, and how strained
    the valid connected molecules are. posebusters needs that package.

    Records that are no molecule in space (flat, without hydrogens, periodic) are named at the end; the exit status is
    1 then.
    """
    from atomsml.cli.files import check_distinct
    from atomsml.cli.job import name_refused, refusal
    from atomsml.cli.output import check_writable, print_json
    from atomsml.generative.molecules.metrics import evaluate as metrics
    from atomsml.generative.molecules.metrics.reading import read_reference

    if csv is not None:
        check_writable(csv)
        check_distinct([csv], context)
    records = _read(inputs, format, strict)
    compared = None if reference is None else read_reference(reference)
    chosen = suites.replace(" ", "").split(",") if suites else _usual(compared, relax)
    if relax is not None and "geometry" not in chosen:
        raise ValueError("--relax measures strain, which is of the suite geometry; add it to --suites")
    predict = None if relax is None else _predict(relax, device, precision)
    taken, refused = _parted(records)
    molecules = [record.atoms for record in taken]
    found = metrics.evaluate_molecules(molecules, chosen, compared, predict, _follow)
    if csv is not None:
        _write_csv(csv, [(record.file, record.index) for record in taken], molecules, found)
    if as_json:
        failed = {"failed": [refusal(each) for each in refused]} if refused else {}
        print_json({"inputs": inputs, "relax": relax, **found.to_json(), **failed})
    else:
        _print(found)
    name_refused(refused, len(records))
    if refused:
        raise typer.Exit(1)


def _read(inputs: Sequence[str], format: str | None, strict: bool) -> list[StructureRecord | Refused]:
    """All records; some of them are molecules."""
    from atomsml.cli.job import require_some_of, stop_if
    from atomsml.generative.molecules.metrics.reading import generated_records

    records = []
    for path in inputs:
        for record in generated_records(path, format):
            stop_if(strict, record)
            records.append(record)
    require_some_of(records)
    return records


def _parted(records: Iterable[StructureRecord | Refused]) -> tuple[list[StructureRecord], list[Refused]]:
    from atomsml.io import Refused

    taken: list[StructureRecord] = []
    refused: list[Refused] = []
    for record in records:
        if isinstance(record, Refused):
            refused.append(record)
        else:
            taken.append(record)
    return taken, refused


def _usual(reference: Reference | None, relax: str | None) -> list[str]:
    basis = relax is not None or (reference is not None and len(reference.molecules) > 0)
    return ["edm", "strict", *(["geometry"] if basis else [])]


def _predict(model: str, device: str, precision: str) -> Predictor:
    from atomsml.interfaces.ase import AtomsMLCalculator

    return AtomsMLCalculator(model, device, precision).predict_batch


def _follow(items: Iterable[Item], total: int, label: str) -> Iterator[Item]:
    from atomsml.cli.output import follow

    return follow(items, total, label, lambda item: "")


def _write_csv(
    path: Path, places: Sequence[tuple[str, int]], molecules: Sequence[ase.Atoms], found: Evaluation
) -> None:
    """A row for each molecule: where it is, what it is, and for every suite why it failed, empty if it did not."""
    import csv

    from atomsml.io import write_atomically

    columns = {name: values for suite in found.suites.values() for name, values in suite.columns.items()}
    header = ["file", "index", "formula", "smiles", *found.suites, *columns]

    def write(beside: Path) -> None:
        with beside.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(header)
            for i, (place, atoms) in enumerate(zip(places, molecules, strict=True)):
                reasons = [suite.failures[i] for suite in found.suites.values()]
                numbers = ["" if values[i] != values[i] else f"{values[i]:.4f}" for values in columns.values()]  # NaN
                writer.writerow([*place, atoms.get_chemical_formula("hill"), found.smiles[i], *reasons, *numbers])

    write_atomically(path, write)


def _print(found: Evaluation) -> None:
    from atomsml.cli.output import print_table

    reference = "" if found.reference is None else f", compared with {found.reference.name}"
    typer.echo(f"{found.molecules} molecules{reference}")
    rows = [
        [suite.version, name.replace("_", " "), *_cells(metric)]
        for suite in found.suites.values()
        for name, metric in suite.metrics.items()
    ]
    print_table(["suite", "metric", "value", "from", "to", "unit", "of molecules"], rows)


def _cells(metric: Metric) -> list[str]:
    """Fractions in per cent."""
    from atomsml.cli.output import finite, number

    factor, digits = (1, DIGITS[metric.unit]) if metric.unit else (100, 2)
    values = (None if finite(x) is None else factor * x for x in (metric.value, metric.low, metric.high))
    return [*(number(x, digits) for x in values), metric.unit or "%", str(metric.of)]
