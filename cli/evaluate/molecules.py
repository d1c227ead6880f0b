"""`atomsml evaluate molecules`: how good generated molecules are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from atomsml.cli.options import ConfigOption, DeviceOption, FormatOption, JsonOption, PrecisionOption, StrictOption

if TYPE_CHECKING:
    import ase

    from atomsml.generative.core.metrics import Metric, SuiteResult
    from atomsml.generative.molecules.metrics.evaluate import Evaluation, Reference, Relax
    from atomsml.io import Refused, StructureRecord

Item = TypeVar("Item")

DIGITS = {"A": 4, "degree": 2, "kcal/mol": 2, "times": 2}  # in the table, by unit
SHOWN = 0.01  # a feature that neither side has in so many molecules is in no table, but in the JSON


def evaluate_molecules(
    context: typer.Context,
    inputs: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Files of molecules, of any format that relax reads, or .h5.")
    ],
    suites: Annotated[
        str | None,
        typer.Option(
            help="Of edm,strict,composition,geometry,posebusters. "
            "[default: edm,strict; composition and geometry where they have a basis]"
        ),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(help="Molecules to compare with, as those of training; SMILES alone, .smi, .csv; or qm9-xtb."),
    ] = None,
    relax: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="Relax with this potential, or with gfn2-xtb, and say how strained they were."
        ),
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

    edm counts stable and valid molecules as the EDM paper does. strict perceives bonds from positions, whatever bonds
    the file has, and asks for usual valences, one piece, no charge, no radicals; unique is of the valid, novel of the
    unique. composition says whether functional groups, rings, sizes and elements are as frequent as in the reference.
    geometry says how far bond lengths, angles and torsions are from those of the reference, and how strained the valid
    connected molecules are. posebusters needs that package.

    The reference qm9-xtb comes with atomsml; it says how often groups and rings occur, not what is novel.

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
    relaxation = None if relax is None else _relaxation(relax, device, precision)
    taken, refused = _parted(records)
    molecules = [record.atoms for record in taken]
    found = metrics.evaluate_molecules(molecules, chosen, compared, relaxation, _follow)
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
    composition = ["composition"] if reference is not None else []
    basis = relax is not None or (reference is not None and len(reference.molecules) > 0)
    return ["edm", "strict", *composition, *(["geometry"] if basis else [])]


def _relaxation(model: str, device: str, precision: str) -> Relax:
    from functools import partial

    from atomsml.generative.molecules import gfn2
    from atomsml.generative.molecules.relaxation import relax_molecules
    from atomsml.interfaces.ase import AtomsMLCalculator

    if model == gfn2.NAME:
        gfn2.check_installed()
        return gfn2.relax_gfn2
    return partial(relax_molecules, predict=AtomsMLCalculator(model, device, precision).predict_batch)


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
    failures = {name: suite.failures for name, suite in found.suites.items() if suite.failures}
    header = ["file", "index", "formula", "smiles", *failures, *columns]

    def write(beside: Path) -> None:
        with beside.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(header)
            for i, (place, atoms) in enumerate(zip(places, molecules, strict=True)):
                reasons = [reason[i] for reason in failures.values()]
                numbers = ["" if values[i] != values[i] else f"{values[i]:.4f}" for values in columns.values()]  # NaN
                writer.writerow([*place, atoms.get_chemical_formula("hill"), found.smiles[i], *reasons, *numbers])

    write_atomically(path, write)


def _print(found: Evaluation) -> None:
    from atomsml.cli.output import print_table

    reference = "" if found.reference is None else f", compared with {found.reference.name}"
    typer.echo(f"{found.molecules} molecules{reference}")
    header, rows = ["suite", "metric", "value", "from", "to", "unit", "of molecules"], list[list[str]]()
    for suite in found.suites.values():
        for name, metric in suite.metrics.items():
            rows.append([suite.version, name.replace("_", " "), *_cells(metric)])
            rows[-1].append(_cells(suite.reference[name])[0] if name in suite.reference else "-")
    if any(suite.reference for suite in found.suites.values()):
        print_table([*header, "of the reference"], rows)
    else:
        print_table(header, [row[:-1] for row in rows])
    if "composition" in found.suites:
        typer.echo("")
        _print_features(found.suites["composition"])


def _print_features(suite: SuiteResult) -> None:
    """How many molecules have each feature that is not rare, the one that is farthest from the reference first."""
    from atomsml.cli.output import number, print_table
    from atomsml.generative.molecules.metrics.composition import FREQUENT, factor
    from atomsml.generative.molecules.metrics.groups import FEATURES

    rows = []
    for name in FEATURES:
        share, there = suite.types[name], suite.reference.get(name)
        if there is None and share.value >= SHOWN:
            rows.append((1.0, [name, *_cells(share)[:4]]))
        elif there is not None and max(share.value, there.value) >= SHOWN:
            far = factor(share, there)  # of rare features it says little
            counts = there.value >= FREQUENT
            rows.append(
                (far, [name, *_cells(share)[:4], number(100 * there.value, 2), number(far, 2) if counts else "-"])
            )
    rows.sort(key=lambda row: -row[0])
    header = ["molecules with", "value", "from", "to", "unit"]
    print_table(header + ["reference", "factor"] * bool(suite.reference), [row for _, row in rows])


def _cells(metric: Metric) -> list[str]:
    """Fractions in per cent."""
    from atomsml.cli.output import finite, number

    factor, digits = (1, DIGITS[metric.unit]) if metric.unit else (100, 2)
    values = (None if finite(x) is None else factor * x for x in (metric.value, metric.low, metric.high))
    return [*(number(x, digits) for x in values), metric.unit or "%", str(metric.of)]
