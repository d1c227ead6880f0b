"""`atomsml evaluate molecules`: how good generated molecules are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from atomsml.cli.options import ConfigOption, DeviceOption, JsonOption, PrecisionOption

if TYPE_CHECKING:
    import ase

    from atomsml.generative.molecules.metrics.evaluate import Evaluation, Reference
    from atomsml.generative.molecules.metrics.results import Metric
    from atomsml.potential import Predict

Item = TypeVar("Item")

DIGITS = {"A": 4, "degree": 2, "kcal/mol": 2}  # in the table, by unit


def evaluate_molecules(
    inputs: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Molecules: .sdf, .xyz, .extxyz, .h5, whatever ASE reads.")
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
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """How good generated molecules are, with 95 % confidence intervals.

    edm counts stable atoms and molecules as the EDM paper does. strict perceives bonds from positions, whatever bonds
    the file has, and asks for usual valences, one piece, no charge, no radicals; unique is of the valid, novel of the
    unique. geometry says how far bond lengths, angles and torsions are from those of the reference, and how strained
    the valid connected molecules are. posebusters needs that package.
    """
    from atomsml.cli.output import check_writable, print_json
    from atomsml.generative.molecules.metrics import evaluate as metrics
    from atomsml.generative.molecules.metrics.reading import read_generated, read_reference

    if csv is not None:
        check_writable(csv)
    images = [read_generated(path) for path in inputs]
    compared = None if reference is None else read_reference(reference)
    chosen = suites.replace(" ", "").split(",") if suites else _usual(compared, relax)
    if relax is not None and "geometry" not in chosen:
        raise ValueError("--relax measures strain, which is of the suite geometry; add it to --suites")
    predict = None if relax is None else _predict(relax, device, precision)
    molecules = [atoms for part in images for atoms in part]
    found = metrics.evaluate_molecules(molecules, chosen, compared, predict, _follow)
    if csv is not None:
        places = [(path, index) for path, part in zip(inputs, images, strict=True) for index in range(len(part))]
        _write_csv(csv, places, molecules, found)
    if as_json:
        print_json({"inputs": inputs, "relax": relax, **found.to_json()})
    else:
        _print(found)


def _usual(reference: Reference | None, relax: str | None) -> list[str]:
    basis = relax is not None or (reference is not None and len(reference.molecules) > 0)
    return ["edm", "strict", *(["geometry"] if basis else [])]


def _predict(model: str, device: str, precision: str) -> Predict:
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
